// Writes the register-tiled inner loops of the matrix products as AssemblyScript. WebAssembly has no arrays of v128 locals, so a
// tile of 6 rows by 8 columns needs 12 named accumulators: this file names them, for every number of rows and every weight format.
//
// Shared by all tiles: a panel of weights holds 8 columns, `[k][8]` in its own format (see pack.ts); the rows of the other
// operand are packed as `[k][rows]` float32, so that both are read from front to back. k is not unrolled: Binaryen would sink the
// additions into expression trees, which makes one dependent chain of each and spills registers (measured: -20 %).

/** How one step of k (8 weights at `b`) becomes two vectors `l` (columns 0 to 3) and `h` (4 to 7), and its bytes. */
const FORMATS = {
  F32: { bytes: 32, load: (at) => [`v128.load(b, ${at})`, `v128.load(b, ${at + 16})`] },
  // bf16 is the upper half of a float32; the packed order of the columns is 0 4 1 5 2 6 3 7.
  Bf16: {
    bytes: 16,
    raw: (at) => `v128.load(b, ${at})`,
    split: (t) => [`i32x4.shl(${t}, 16)`, `v128.and(${t}, UPPER_HALF)`],
  },
  // f16 moved to the place of float32's exponent is 2^112 too small; the other operand comes 2^112 too large (see linear.ts).
  F16: {
    bytes: 16,
    raw: (at) => `v128.load(b, ${at})`,
    split: (t) => [
      `v128.and(i32x4.shr_s(i32x4.shl(${t}, 16), 3), HALF_BITS)`,
      `v128.and(i32x4.shr_s(${t}, 3), HALF_BITS)`,
    ],
  },
};

const range = (n) => Array.from({ length: n }, (_, i) => i);
const each = (n, write, separator = '\n') => range(n).map(write).join(separator);

/** The constants that a format's decoding needs, as locals. */
const constants = (name) =>
  ({
    F32: '',
    Bf16: '  const UPPER_HALF = i32x4.splat(<i32>0xffff0000);\n',
    F16: '  const HALF_BITS = i32x4.splat(<i32>0x8fffe000);\n',
  })[name];

/** Lines that load one step of k at byte `at` into `l<tag>` and `h<tag>`. */
function loadStep(format, at, tag = '') {
  const { raw, split, load } = FORMATS[format];
  const [low, high] = load ? load(at) : split(`t${tag}`);
  return `${raw ? `    const t${tag} = ${raw(at)};\n` : ''}    const l${tag} = ${low}, h${tag} = ${high};`;
}

/** C[rows, 8] (+)= A[rows, k] · panel, with the bias where C is not added to. */
function tile(format, rows) {
  const { bytes } = FORMATS[format];
  return `
function tile${format}x${rows}(a: usize, b: usize, c: usize, ldc: usize, k: i32, add: bool, bias: usize): void {
${constants(format)}  const end = b + <usize>k * ${bytes};
${each(rows, (i) => `  let l${i} = f32x4.splat(0), h${i} = l${i};`)}
  for (; b < end; a += ${rows * 4}, b += ${bytes}) {
${loadStep(format, 0)}
    let x: v128;
${each(rows, (i) => `    x = v128.load_splat<f32>(a, ${i * 4}); l${i} = fma(x, l, l${i}); h${i} = fma(x, h, h${i});`)}
  }
  if (add) {
${each(rows, (i) => `    addTo(c${i ? ` + ${i} * ldc` : ''}, l${i}, h${i});`)}
  } else {
    let l = f32x4.splat(0), h = l;
    if (bias) {
      l = v128.load(bias);
      h = v128.load(bias, 16);
    }
${each(rows, (i) => `    put(c${i ? ` + ${i} * ldc` : ''}, f32x4.add(l${i}, l), f32x4.add(h${i}, h));`)}
  }
}
`;
}

/** y[8] = x[k] · panel + bias for a single row: four interleaved partial sums hide the latency of the additions. */
function stream(format) {
  const { bytes } = FORMATS[format];
  const step = (at, tag, u) => `${loadStep(format, at, tag)}
    const x${tag} = v128.load_splat<f32>(a, ${u * 4}); p${u} = fma(x${tag}, l${tag}, p${u}); q${u} = fma(x${tag}, h${tag}, q${u});`;
  return `
function stream${format}(a: usize, b: usize, c: usize, k: i32, bias: usize): void {
${constants(format)}${each(4, (u) => `  let p${u} = f32x4.splat(0), q${u} = p${u};`)}
  const end = b + <usize>k * ${bytes}, even = b + <usize>(k & ~3) * ${bytes};
  for (; b < even; a += 16, b += ${4 * bytes}) {
${each(4, (u) => step(u * bytes, `_${u}`, u))}
  }
  for (; b < end; a += 4, b += ${bytes}) {
${step(0, '_0', 0)}
  }
  let l = f32x4.add(f32x4.add(p0, p1), f32x4.add(p2, p3)), h = f32x4.add(f32x4.add(q0, q1), f32x4.add(q2, q3));
  if (bias) {
    l = f32x4.add(l, v128.load(bias));
    h = f32x4.add(h, v128.load(bias, 16));
  }
  put(c, l, h);
}
`;
}

/** int8 weights in pairs of k against rows rounded to 16 bits: exact integer sums, scaled at the end. */
function int8Tile(rows) {
  return `
function tileInt8x${rows}(a: usize, b: usize, c: usize, ldc: usize, pairs: i32, rowScales: usize, scales: usize, bias: usize): void {
  const end = b + (<usize>pairs << 4);
${each(rows, (i) => `  let l${i} = i32x4.splat(0), h${i} = l${i};`)}
  for (; b < end; a += ${rows * 4}, b += 16) {
    const l = v128.load_ext<i8>(b), h = v128.load_ext<i8>(b, 8);
    let x: v128;
${each(rows, (i) => `    x = v128.load_splat<i32>(a, ${i * 4}); l${i} = i32x4.add(l${i}, i32x4.dot_i16x8_s(x, l)); h${i} = i32x4.add(h${i}, i32x4.dot_i16x8_s(x, h));`)}
  }
${each(rows, (i) => `  putScaled(c${i ? ` + ${i} * ldc` : ''}, l${i}, h${i}, rowScales + ${i * 4}, scales, bias);`)}
}
`;
}

/** One row of int8 weights, two steps at a time. */
const int8Stream = () => `
function streamInt8(a: usize, b: usize, c: usize, pairs: i32, rowScale: usize, scales: usize, bias: usize): void {
  const end = b + (<usize>pairs << 4), even = b + (<usize>(pairs & ~1) << 4);
  let l0 = i32x4.splat(0), h0 = l0, l1 = l0, h1 = l0;
  for (; b < even; a += 8, b += 32) {
    const x = v128.load_splat<i32>(a), y = v128.load_splat<i32>(a, 4);
    l0 = i32x4.add(l0, i32x4.dot_i16x8_s(x, v128.load_ext<i8>(b)));
    h0 = i32x4.add(h0, i32x4.dot_i16x8_s(x, v128.load_ext<i8>(b, 8)));
    l1 = i32x4.add(l1, i32x4.dot_i16x8_s(y, v128.load_ext<i8>(b, 16)));
    h1 = i32x4.add(h1, i32x4.dot_i16x8_s(y, v128.load_ext<i8>(b, 24)));
  }
  if (b < end) {
    const x = v128.load_splat<i32>(a);
    l0 = i32x4.add(l0, i32x4.dot_i16x8_s(x, v128.load_ext<i8>(b)));
    h0 = i32x4.add(h0, i32x4.dot_i16x8_s(x, v128.load_ext<i8>(b, 8)));
  }
  putScaled(c, i32x4.add(l0, l1), i32x4.add(h0, h1), rowScale, scales, bias);
}
`;

/** A switch over the number of rows. */
const choose = (name, parameters, args, rows) => `
/** The tile of \`rows\` rows. */
export function ${name}(rows: i32, ${parameters}): void {
  switch (rows) {
${each(rows, (i) => `    case ${i + 1}: ${name}x${i + 1}(${args}); break;`)}
  }
}
`;

/** Rows of the largest tile: what 15 vector registers hold, with and without a fused multiply-add. */
const MAX_ROWS = 6;

/** The whole module. */
export function tilesSource() {
  const parts = [
    `// Written by tiles.mjs.
import { fma } from './math';

@inline function put(c: usize, l: v128, h: v128): void {
  v128.store(c, l);
  v128.store(c, h, 16);
}

@inline function addTo(c: usize, l: v128, h: v128): void {
  put(c, f32x4.add(v128.load(c), l), f32x4.add(v128.load(c, 16), h));
}

@inline function putScaled(c: usize, l: v128, h: v128, rowScale: usize, scales: usize, bias: usize): void {
  const s = v128.load_splat<f32>(rowScale);
  l = f32x4.mul(f32x4.convert_i32x4_s(l), f32x4.mul(s, v128.load(scales)));
  h = f32x4.mul(f32x4.convert_i32x4_s(h), f32x4.mul(s, v128.load(scales, 16)));
  if (bias) {
    l = f32x4.add(l, v128.load(bias));
    h = f32x4.add(h, v128.load(bias, 16));
  }
  put(c, l, h);
}
`,
  ];
  const parameters = 'a: usize, b: usize, c: usize, ldc: usize, k: i32, add: bool, bias: usize';
  for (const format of Object.keys(FORMATS)) {
    parts.push(...range(MAX_ROWS).map((i) => tile(format, i + 1)));
    parts.push(choose(`tile${format}`, parameters, 'a, b, c, ldc, k, add, bias', MAX_ROWS));
    parts.push(stream(format).replace('\nfunction', '\nexport function'));
  }
  const int8 = 'a: usize, b: usize, c: usize, ldc: usize, pairs: i32, rowScales: usize, scales: usize, bias: usize';
  parts.push(...range(MAX_ROWS).map((i) => int8Tile(i + 1)));
  parts.push(choose('tileInt8', int8, 'a, b, c, ldc, pairs, rowScales, scales, bias', MAX_ROWS));
  parts.push(int8Stream().replace('\nfunction', '\nexport function'));
  return parts.join('');
}
