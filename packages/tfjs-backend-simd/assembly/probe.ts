// What this machine can do in WebAssembly at best; the benches give their figures as a ratio to these.

import { fma, sumLanes } from './math';

const START: usize = memory.data<f32>([0.5, 0.5, 0.5, 0.5, 0.999, 0.999, 0.999, 0.999, 0.001, 0.001, 0.001, 0.001], 16);
const RESULT: usize = memory.data(192, 16);

/**
 * `turns` times 12 independent chains of 2 multiply-adds: turns * 192 floating-point operations. Only loads before and stores
 * after the loop, see tiles.mjs.
 */
export function peak(turns: i32): void {
  const m = v128.load(START, 16), s = v128.load(START, 32);
  let a = v128.load(START), b = v128.load(START), c = v128.load(START), d = v128.load(START);
  let e = v128.load(START), f = v128.load(START), g = v128.load(START), h = v128.load(START);
  let i = v128.load(START), j = v128.load(START), k = v128.load(START), l = v128.load(START);
  for (let t = 0; t < turns; t++) {
    a = fma(a, m, s); b = fma(b, m, s); c = fma(c, m, s); d = fma(d, m, s);
    e = fma(e, m, s); f = fma(f, m, s); g = fma(g, m, s); h = fma(h, m, s);
    i = fma(i, m, s); j = fma(j, m, s); k = fma(k, m, s); l = fma(l, m, s);
    a = fma(a, m, s); b = fma(b, m, s); c = fma(c, m, s); d = fma(d, m, s);
    e = fma(e, m, s); f = fma(f, m, s); g = fma(g, m, s); h = fma(h, m, s);
    i = fma(i, m, s); j = fma(j, m, s); k = fma(k, m, s); l = fma(l, m, s);
  }
  v128.store(RESULT, a, 0); v128.store(RESULT, b, 16); v128.store(RESULT, c, 32); v128.store(RESULT, d, 48);
  v128.store(RESULT, e, 64); v128.store(RESULT, f, 80); v128.store(RESULT, g, 96); v128.store(RESULT, h, 112);
  v128.store(RESULT, i, 128); v128.store(RESULT, j, 144); v128.store(RESULT, k, 160); v128.store(RESULT, l, 176);
}

/** sum + the 16-bit dot product. */
@inline function dot(a: v128, b: v128, sum: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(a, b));
}

/** The same with 16-bit dot products: turns * 384 operations. */
export function peakDots(turns: i32): void {
  const m = v128.load(START);
  let a = v128.load(START), b = v128.load(START), c = v128.load(START), d = v128.load(START);
  let e = v128.load(START), f = v128.load(START), g = v128.load(START), h = v128.load(START);
  let i = v128.load(START), j = v128.load(START), k = v128.load(START), l = v128.load(START);
  for (let t = 0; t < turns; t++) {
    a = dot(a, m, a); b = dot(b, m, b); c = dot(c, m, c); d = dot(d, m, d);
    e = dot(e, m, e); f = dot(f, m, f); g = dot(g, m, g); h = dot(h, m, h);
    i = dot(i, m, i); j = dot(j, m, j); k = dot(k, m, k); l = dot(l, m, l);
    a = dot(a, m, a); b = dot(b, m, b); c = dot(c, m, c); d = dot(d, m, d);
    e = dot(e, m, e); f = dot(f, m, f); g = dot(g, m, g); h = dot(h, m, h);
    i = dot(i, m, i); j = dot(j, m, j); k = dot(k, m, k); l = dot(l, m, l);
  }
  v128.store(RESULT, a, 0); v128.store(RESULT, b, 16); v128.store(RESULT, c, 32); v128.store(RESULT, d, 48);
  v128.store(RESULT, e, 64); v128.store(RESULT, f, 80); v128.store(RESULT, g, 96); v128.store(RESULT, h, 112);
  v128.store(RESULT, i, 128); v128.store(RESULT, j, 144); v128.store(RESULT, k, 160); v128.store(RESULT, l, 176);
}

/** Reads `bytes` (a multiple of 256), at four places at once, and adds them up: the memory's read bandwidth. */
export function readAll(at: usize, bytes: usize): f32 {
  const part = bytes >> 2, end = at + part;
  let a = f32x4.splat(0), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  for (let second = at + part, third = second + part, fourth = third + part; at < end;) {
    a = f32x4.add(a, v128.load(at));
    b = f32x4.add(b, v128.load(at, 16));
    c = f32x4.add(c, v128.load(at, 32));
    d = f32x4.add(d, v128.load(at, 48));
    e = f32x4.add(e, v128.load(second));
    f = f32x4.add(f, v128.load(second, 16));
    g = f32x4.add(g, v128.load(second, 32));
    h = f32x4.add(h, v128.load(second, 48));
    a = f32x4.add(a, v128.load(third));
    b = f32x4.add(b, v128.load(third, 16));
    c = f32x4.add(c, v128.load(third, 32));
    d = f32x4.add(d, v128.load(third, 48));
    e = f32x4.add(e, v128.load(fourth));
    f = f32x4.add(f, v128.load(fourth, 16));
    g = f32x4.add(g, v128.load(fourth, 32));
    h = f32x4.add(h, v128.load(fourth, 48));
    at += 64, second += 64, third += 64, fourth += 64;
  }
  return sumLanes(f32x4.add(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)), f32x4.add(f32x4.add(e, f), f32x4.add(g, h))));
}
