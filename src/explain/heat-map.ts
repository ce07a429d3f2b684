import type { AttentionMap, Grid, Rectangle } from './attention-map.js';

/** Weights per pixel, float32 [height, width]. */
export interface HeatMap {
  readonly values: Float32Array;
  readonly width: number;
  readonly height: number;
}

/** How weights are filled in between patches: `smooth` bicubic, or `patches`, each a plain rectangle. */
export type Filling = 'smooth' | 'patches';

/** Which patches a pixel takes from, four for each pixel, and how much of each: both [length * 4]. */
interface Taps {
  readonly places: Int32Array;
  readonly weights: Float32Array;
}

/**
 * The weights of one frame's patches, drawn over `width` by `height` pixels of which the grid covers `area`. `smooth` is Catmull and Rom's
 * bicubic (a = -0.5): at the middle of a patch the value is exactly the patch's weight; between patches it is cut to 0 and the largest
 * weight, which the cubic may overshoot. Pixels outside `area` are 0.
 */
export function heatMap(
  map: Pick<AttentionMap, 'patches'>,
  grid: Grid,
  frame: number,
  area: Rectangle,
  width: number,
  height: number,
  filling: Filling = 'smooth',
): HeatMap {
  const { rows, columns } = grid;
  const weights = map.patches.subarray(frame * rows * columns, (frame + 1) * rows * columns);
  const most = weights.reduce((max, weight) => Math.max(max, weight), 0);
  const across = tapsOf(width, area.left, area.width, columns, filling);
  const down = tapsOf(height, area.top, area.height, rows, filling);
  const values = new Float32Array(width * height);
  const line = new Float32Array(columns);
  for (let y = 0; y < height; y++) {
    if (down.places[y * 4]! < 0) continue;
    for (let column = 0; column < columns; column++) line[column] = weighted(down, y, weights, column, columns);
    for (let x = 0; x < width; x++) {
      if (across.places[x * 4]! < 0) continue;
      values[y * width + x] = Math.min(most, Math.max(0, weighted(across, x, line, 0, 1)));
    }
  }
  return { values, width, height };
}

function weighted({ places, weights }: Taps, pixel: number, from: Float32Array, offset: number, stride: number) {
  let sum = 0;
  for (let tap = pixel * 4; tap < pixel * 4 + 4; tap++) sum += weights[tap]! * from[places[tap]! * stride + offset]!;
  return sum;
}

/** Taps along one axis: `count` patches over `length` pixels from `start`. A pixel whose middle is outside has places below 0. */
function tapsOf(pixels: number, start: number, length: number, count: number, filling: Filling): Taps {
  const places = new Int32Array(pixels * 4).fill(-1);
  const weights = new Float32Array(pixels * 4);
  for (let pixel = 0; pixel < pixels; pixel++) {
    const inside = (pixel + 0.5 - start) / length;
    if (inside < 0 || inside >= 1) continue;
    const place = filling === 'smooth' ? inside * count - 0.5 : Math.floor(inside * count);
    const first = Math.floor(place);
    const kernel = cubic(place - first);
    for (let tap = 0; tap < 4; tap++) {
      places[pixel * 4 + tap] = Math.min(count - 1, Math.max(0, first - 1 + tap)); // the border goes on outwards
      weights[pixel * 4 + tap] = kernel[tap]!;
    }
  }
  return { places, weights };
}

/** Catmull and Rom's weights of the four neighbours of a place `t` of the way from the second to the third. */
const cubic = (t: number): readonly [number, number, number, number] => [
  ((2 - t) * t - 1) * t * 0.5,
  ((3 * t - 5) * t * t + 2) * 0.5,
  ((4 - 3 * t) * t + 1) * t * 0.5,
  (t - 1) * t * t * 0.5,
];
