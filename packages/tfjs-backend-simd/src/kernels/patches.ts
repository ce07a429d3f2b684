import type { SimdBackend } from '../simd-backend.js';
import { copyStrided } from './copy.js';
import { forEachTap, inside, type Windows } from './windows.js';

/**
 * The windows of one image at `from`, as rows [places, taps * channels] at `to`. For each tap, the pixels it meets are one
 * strided copy; what lies outside the image is zero.
 */
export function patches(backend: SimdBackend, from: number, to: number, windows: Windows, channels: number): void {
  const { axes, places, taps } = windows;
  const width = taps * channels;
  backend.view(to, places * width, 'float32').fill(0);
  const [, rows, columns] = axes;
  const fromStrides = [rows.size * columns.size * channels, columns.size * channels, channels];
  const toStrides = [rows.places * columns.places * width, columns.places * width, width];
  for (let tap = 0; tap < taps; tap++) {
    const z = Math.floor(tap / (rows.taps * columns.taps));
    const taken = [z, Math.floor(tap / columns.taps) % rows.taps, tap % columns.taps];
    const offsets = axes.map(({ dilation, before }, d) => taken[d]! * dilation - before);
    const met = axes.map((axis, d) => inside(offsets[d]!, axis));
    const pixel = met.reduce((at, { first }, d) => at + (offsets[d]! + first * axes[d]!.stride) * fromStrides[d]!, 0);
    const place = met.reduce((at, { first }, d) => at + first * toStrides[d]!, tap * channels);
    copyStrided(backend, {
      ...{ from: from + pixel * 4, to: to + place * 4, elementBytes: 4 },
      dims: [...met.map(({ count }) => count), channels],
      fromStrides: [...fromStrides.map((step, d) => step * axes[d]!.stride), 1],
      toStrides: [...toStrides, 1],
    });
  }
}

/** The way back: adds rows [places, taps * channels] at `from` to the pixels of one image at `to`. */
export function addPatches(backend: SimdBackend, from: number, to: number, windows: Windows, channels: number): void {
  const { places, pixels, taps } = windows;
  const rows = backend.view(from, places * taps * channels, 'float32');
  const target = backend.view(to, pixels * channels, 'float32');
  forEachTap({ ...windows, batch: 1 }, (place, tap, pixel) => {
    let [at, source] = [pixel * channels, (place * taps + tap) * channels];
    for (let c = 0; c < channels; c++) target[at++]! += rows[source++]!;
  });
}
