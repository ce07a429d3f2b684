// What this machine can do in WebAssembly at best; the benches give their figures as a ratio to these.

import { fma, sumLanes } from './math';

/** `turns` times 12 independent chains of 2 multiply-adds: turns * 192 floating-point operations. */
export function peak(turns: i32, seed: f32): f32 {
  const m = f32x4.splat(0.999), d = f32x4.splat(0.001);
  let a = f32x4.splat(seed), b = f32x4.splat(seed + 1), c = f32x4.splat(seed + 2), e = f32x4.splat(seed + 3);
  let f = f32x4.splat(seed + 4), g = f32x4.splat(seed + 5), h = f32x4.splat(seed + 6), i = f32x4.splat(seed + 7);
  let j = f32x4.splat(seed + 8), k = f32x4.splat(seed + 9), l = f32x4.splat(seed + 10), n = f32x4.splat(seed + 11);
  for (let t = 0; t < turns; t++) {
    a = fma(a, m, d); b = fma(b, m, d); c = fma(c, m, d); e = fma(e, m, d);
    f = fma(f, m, d); g = fma(g, m, d); h = fma(h, m, d); i = fma(i, m, d);
    j = fma(j, m, d); k = fma(k, m, d); l = fma(l, m, d); n = fma(n, m, d);
    a = fma(a, m, d); b = fma(b, m, d); c = fma(c, m, d); e = fma(e, m, d);
    f = fma(f, m, d); g = fma(g, m, d); h = fma(h, m, d); i = fma(i, m, d);
    j = fma(j, m, d); k = fma(k, m, d); l = fma(l, m, d); n = fma(n, m, d);
  }
  const r = f32x4.add(f32x4.add(f32x4.add(a, b), f32x4.add(c, e)), f32x4.add(f32x4.add(f, g), f32x4.add(h, i)));
  return sumLanes(f32x4.add(r, f32x4.add(f32x4.add(j, k), f32x4.add(l, n))));
}

/** Reads `bytes` (a multiple of 128) and adds them up: the memory's read bandwidth. */
export function readAll(at: usize, bytes: usize): f32 {
  const end = at + bytes;
  let a = f32x4.splat(0), b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  for (; at < end; at += 128) {
    a = f32x4.add(a, v128.load(at));
    b = f32x4.add(b, v128.load(at, 16));
    c = f32x4.add(c, v128.load(at, 32));
    d = f32x4.add(d, v128.load(at, 48));
    e = f32x4.add(e, v128.load(at, 64));
    f = f32x4.add(f, v128.load(at, 80));
    g = f32x4.add(g, v128.load(at, 96));
    h = f32x4.add(h, v128.load(at, 112));
  }
  return sumLanes(f32x4.add(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)), f32x4.add(f32x4.add(e, f), f32x4.add(g, h))));
}
