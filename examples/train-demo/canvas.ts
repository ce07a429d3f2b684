/**
 * A square canvas that fills polygons with smooth edges: the area that a polygon covers of each pixel is summed exactly (the algorithm of font-rs:
 * each edge adds its signed area to the cells it crosses, and a running sum along the row gives the cover).
 */

export type Color = readonly [red: number, green: number, blue: number];

/** A closed line: x0, y0, x1, y1, … in pixels. */
export type Contour = readonly number[];

export class Canvas {
  /** Red, green, blue of each pixel, row by row, 0 to 255. */
  readonly pixels: Float32Array;
  readonly #cover: Float32Array;
  readonly #stride: number;

  constructor(readonly size: number) {
    this.pixels = new Float32Array(size * size * 3);
    this.#stride = size + 2;
    this.#cover = new Float32Array(this.#stride * size);
  }

  /** Fills the whole with one color that becomes another, across or down. */
  fillGradient(from: Color, to: Color, isAcross: boolean): void {
    const { size, pixels } = this;
    const [red, green, blue] = from;
    const [toRed, toGreen, toBlue] = to.map((value, channel) => value - from[channel]!) as never as Color;
    for (let y = 0, at = 0; y < size; y++)
      for (let x = 0; x < size; x++) {
        const along = ((isAcross ? x : y) + 0.5) / size;
        pixels[at++] = red + along * toRed;
        pixels[at++] = green + along * toGreen;
        pixels[at++] = blue + along * toBlue;
      }
  }

  /** Fills contours; a hole runs the other way round than what it is in. */
  fill(contours: readonly Contour[], color: Color, opacity = 1): void {
    const [top, bottom] = this.#addContours(contours);
    const { size, pixels } = this;
    const [red, green, blue] = color;
    const cover = this.#cover;
    for (let y = top; y < bottom; y++) {
      let sum = 0;
      for (let x = 0, cell = y * this.#stride; x < size; x++, cell++) {
        sum += cover[cell]!;
        cover[cell] = 0;
        const alpha = Math.min(1, Math.abs(sum)) * opacity;
        if (alpha < 1e-4) continue;
        const at = (y * size + x) * 3;
        pixels[at]! += alpha * (red - pixels[at]!);
        pixels[at + 1]! += alpha * (green - pixels[at + 1]!);
        pixels[at + 2]! += alpha * (blue - pixels[at + 2]!);
      }
      cover.fill(0, y * this.#stride + size, (y + 1) * this.#stride);
    }
  }

  /** Adds the areas of all edges; returns the rows that have any. */
  #addContours(contours: readonly Contour[]): [top: number, bottom: number] {
    let [least, most] = [this.size, 0];
    for (const contour of contours) {
      const count = contour.length;
      for (let i = 0; i < count; i += 2) {
        const y = contour[i + 1]!;
        least = Math.min(least, y);
        most = Math.max(most, y);
        this.#addEdge(contour[i]!, y, contour[(i + 2) % count]!, contour[(i + 3) % count]!);
      }
    }
    return [Math.max(0, Math.floor(least)), Math.min(this.size, Math.ceil(most))];
  }

  #addEdge(fromX: number, fromY: number, toX: number, toY: number): void {
    if (fromY === toY) return;
    const down = fromY < toY;
    const [x0, y0, x1, y1] = down ? [fromX, fromY, toX, toY] : [toX, toY, fromX, fromY];
    const slope = (x1 - x0) / (y1 - y0);
    const begin = Math.max(0, y0);
    const end = Math.min(this.size, y1);
    let x = x0 + (begin - y0) * slope;
    for (let y = Math.floor(begin); y < end; y++) {
      const height = Math.min(y + 1, end) - Math.max(y, begin);
      const next = x + slope * height;
      this.#addPiece(y * this.#stride, x, next, down ? height : -height);
      x = next;
    }
  }

  /** An edge within one row, from x to next; what is left of the canvas counts at its first column, what is right of it nowhere. */
  #addPiece(row: number, x: number, next: number, height: number): void {
    const left = Math.min(this.size, Math.max(0, Math.min(x, next)));
    const right = Math.min(this.size, Math.max(0, Math.max(x, next)));
    const first = Math.floor(left);
    const last = Math.max(first + 1, Math.ceil(right));
    const cover = this.#cover;
    if (last === first + 1) {
      const middle = (left + right) / 2 - first;
      cover[row + first]! += height * (1 - middle);
      cover[row + first + 1]! += height * middle;
      return;
    }
    // The height that the edge has passed at each column border, integrated over the column: the difference is what the cell gets.
    const perColumn = height / (right - left);
    let before = 0;
    for (let column = first; column < last; column++) {
      const [from, to] = [Math.max(left, column), Math.min(right, column + 1)];
      const passed = (from - left) * perColumn; // before this column
      const inside = (to - from) * perColumn;
      // Pixels of this column are covered right of the edge: what passed before it whole, what passes within it by its mean distance to the border.
      const covered = passed + inside * (column + 1 - (from + to) / 2);
      cover[row + column]! += covered - before;
      before = covered;
    }
    cover[row + last]! += height - before;
  }
}

export const rectangle = (left: number, top: number, right: number, bottom: number): Contour => [
  ...[left, top],
  ...[right, top],
  ...[right, bottom],
  ...[left, bottom],
];

/** Part of an ellipse as points, angles in turns, clockwise from the right. */
function arc(x: number, y: number, rx: number, ry: number, from: number, to: number, steps: number): number[] {
  return Array.from({ length: steps + 1 }, (_, i) => {
    const angle = 2 * Math.PI * (from + ((to - from) * i) / steps);
    return [x + rx * Math.cos(angle), y + ry * Math.sin(angle)];
  }).flat();
}

export const ellipse = (x: number, y: number, rx: number, ry: number): Contour => arc(x, y, rx, ry, 0, 1, 40);

export const lowerHalfEllipse = (x: number, y: number, rx: number, ry: number): Contour =>
  arc(x, y, rx, ry, 0, 0.5, 20);

export const roundedRectangle = (left: number, top: number, right: number, bottom: number, radius: number): Contour => [
  ...arc(right - radius, top + radius, radius, radius, 0.75, 1, 6),
  ...arc(right - radius, bottom - radius, radius, radius, 0, 0.25, 6),
  ...arc(left + radius, bottom - radius, radius, radius, 0.25, 0.5, 6),
  ...arc(left + radius, top + radius, radius, radius, 0.5, 0.75, 6),
];

/** The other way round: a hole. */
export const reversed = (contour: Contour): Contour =>
  Array.from({ length: contour.length / 2 }, (_, i) =>
    contour.slice(contour.length - 2 * i - 2, contour.length - 2 * i),
  ).flat();
