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
  // Re-encoded f16 (see pack.ts) at the place of float32's exponent is 2^102 too small; the rows come 2^102 too large for it.
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

/** The constants that a format's decoding needs, as locals; from memory, because V8 rebuilds a literal at every turn of a loop. */
const constants = (name) =>
  ({
    F32: '',
    Bf16: '  const UPPER_HALF = v128.load(MASKS);\n',
    F16: '  const HALF_BITS = v128.load(MASKS, 16);\n',
  })[name];

/** Lines that load one step of k at byte `at` into `l<tag>` and `h<tag>`. */
function loadStep(format, at, tag = '') {
  const { raw, split, load } = FORMATS[format];
  const [low, high] = load ? load(at) : split(`t${tag}`);
  return `${raw ? `    const t${tag} = ${raw(at)};\n` : ''}    const l${tag} = ${low}, h${tag} = ${high};`;
}

/**
 * C[rows, 8] = what stands at `base` + A[rows, k] · panel. The base is C itself where a block of k is added to others, the bias
 * (the same for every row: a step of 0), or zeros. Before the loop only loads and after it only stores: with arithmetic there,
 * V8 (11.3) moves every multiply-add behind all the loads of a step and runs out of registers (62 % of the peak instead of 98 %).
 */
function tile(format, rows) {
  const { bytes } = FORMATS[format];
  return `
export function tile${format}x${rows}(a: usize, b: usize, c: usize, ldc: usize, k: i32, base: usize, step: usize): void {
${constants(format)}  const end = b + <usize>k * ${bytes};
${each(rows, (i) => `  let l${i} = v128.load(base), h${i} = v128.load(base, 16);${i + 1 < rows ? ' base += step;' : ''}`)}
  for (; b < end; b += ${bytes}, a += ${rows * 4}) {
${loadStep(format, 0)}
    let x: v128;
${each(rows, (i) => `    x = v128.load_splat<f32>(a, ${i * 4}); l${i} = fma(x, l, l${i}); h${i} = fma(x, h, h${i});`)}
  }
${each(rows, (i) => `  v128.store(c, l${i}); v128.store(c, h${i}, 16);${i + 1 < rows ? ' c += ldc;' : ''}`)}
}
`;
}

/**
 * x[k] · four panels, at b, c, d and e, for a single row, added to what stands at `sums` [4, 8]. k is even. Sharing x between the
 * panels saves instructions: the fewer there are to a byte, the more bytes a processor has on their way from memory at once.
 */
function streamPanels(format) {
  const { bytes } = FORMATS[format];
  const panels = ['b', 'c', 'd', 'e'];
  const add = (panel, p, u) => `${loadStep(format, u * bytes, `_${p}_${u}`).replaceAll('(b,', `(${panel},`)}
    p${p} = fma(x${u}, l_${p}_${u}, p${p}); q${p} = fma(x${u}, h_${p}_${u}, q${p});`;
  const step = (u) => `    const x${u} = v128.load_splat<f32>(a, ${u * 4});
${panels.map((panel, p) => add(panel, p, u)).join('\n')}`;
  const next = (pointer) => `${pointer} += ${2 * bytes}`;
  return `
export function stream${format}(a: usize, b: usize, c: usize, d: usize, e: usize, sums: usize, k: i32): void {
${constants(format)}${each(4, (p) => `  let p${p} = v128.load(sums, ${p * 32}), q${p} = v128.load(sums, ${p * 32 + 16});`)}
  const end = b + <usize>k * ${bytes};
  for (; b < end; ${panels.map(next).join(', ')}, a += 8) {
${each(2, step)}
  }
${each(4, (p) => `  v128.store(sums, p${p}, ${p * 32}); v128.store(sums, q${p}, ${p * 32 + 16});`)}
}
`;
}

/** One row of pairs against four panels of int8 weights; the exact sums are left at `sums` [4, 8]. */
const int8Stream = () => {
  const panels = ['b', 'c', 'd', 'e'];
  const add = (sum, panel, at) =>
    `${sum} = i32x4.add(${sum}, i32x4.dot_i16x8_s(x, v128.load_ext<i8>(${panel}, ${at})));`;
  return `
export function streamInt8(a: usize, b: usize, c: usize, d: usize, e: usize, sums: usize, pairs: i32): void {
${each(4, (p) => `  let p${p} = v128.load(ZEROS), q${p} = v128.load(ZEROS);`)}
  const end = b + (<usize>pairs << 4);
  for (; b < end; b += 16, c += 16, d += 16, e += 16, a += 4) {
    const x = v128.load_splat<i32>(a);
${panels.map((panel, p) => `    ${add(`p${p}`, panel, 0)} ${add(`q${p}`, panel, 8)}`).join('\n')}
  }
${each(4, (p) => `  v128.store(sums, p${p}, ${p * 32}); v128.store(sums, q${p}, ${p * 32 + 16});`)}
}
`;
};

/** How a pair of k of 8 columns becomes two vectors of 16-bit words: columns 0 to 3, and 4 to 7. */
const WORDS = {
  Int8: { bytes: 16, load: ['v128.load_ext<i8>(b)', 'v128.load_ext<i8>(b, 8)'] },
  Int16: { bytes: 32, load: ['v128.load(b)', 'v128.load(b, 16)'] },
};

/** Weights in pairs of k against rows rounded to 16 bits: exact integer sums, [rows, 8] at `sums`. */
function integerTile(format, rows) {
  const { bytes, load } = WORDS[format];
  const add = (sum, words) => `${sum} = i32x4.add(${sum}, i32x4.dot_i16x8_s(x, ${words}));`;
  return `
export function tile${format}x${rows}(a: usize, b: usize, sums: usize, pairs: i32): void {
  const end = b + <usize>pairs * ${bytes};
${each(rows, (i) => `  let l${i} = v128.load(ZEROS), h${i} = v128.load(ZEROS, 16);`)}
  for (; b < end; b += ${bytes}, a += ${rows * 4}) {
    const l = ${load[0]}, h = ${load[1]};
    let x: v128;
${each(rows, (i) => `    x = v128.load_splat<i32>(a, ${i * 4}); ${add(`l${i}`, 'l')} ${add(`h${i}`, 'h')}`)}
  }
${each(rows, (i) => `  v128.store(sums, l${i}, ${i * 32}); v128.store(sums, h${i}, ${i * 32 + 16});`)}
}
`;
}

/** Weights in fours of k, whole fours of them, against rows of bytes: exact integer sums, [rows, 8] at `sums`. */
function fastTile(dots, rows) {
  if (dots === 'Pairs') return pairsTile(rows);
  const add = (sum, w) => `${sum} = dot${dots}(x, ${w}, ${sum}, ones);`;
  const body = `  for (; b < end; b += 32, a += ${rows * 4}) {
    const l = v128.load(b), h = v128.load(b, 16);
    let x: v128;
${each(rows, (i) => `    x = v128.load_splat<i32>(a, ${i * 4}); ${add(`l${i}`, 'l')} ${add(`h${i}`, 'h')}`)}
  }`;
  return `
export function tileFast${dots}x${rows}(a: usize, b: usize, sums: usize, fours: i32): void {
  const end = b + (<usize>fours << 5), ones = v128.load(WORDS_OF_ONE);
${each(rows, (i) => `  let l${i} = v128.load(ZEROS), h${i} = v128.load(ZEROS, 16);`)}
${body}
${each(rows, (i) => `  v128.store(sums, l${i}, ${i * 32}); v128.store(sums, h${i}, ${i * 32 + 16});`)}
}
`;
}

/**
 * The same with four fours at once: what two products add up to is added in 16 bits (pack.ts sees to it that they suffice), so that of four
 * multiplications by ones three are spared. The sums of 32 bits stay in memory, since weights take the registers.
 */
function pairsTile(rows) {
  const add = (sum, w, f) => (f ? `${sum} = i16x8.add(${sum}, productsPairs(x, ${w}));` : `${sum} = productsPairs(x, ${w});`);
  const store = (sum, at) => `v128.store(sums, i32x4.add(v128.load(sums, ${at}), i32x4.dot_i16x8_s(${sum}, ones)), ${at});`;
  return `
export function tileFastPairsx${rows}(a: usize, b: usize, sums: usize, fours: i32): void {
  const end = b + (<usize>fours << 5), ones = v128.load(WORDS_OF_ONE), zero = v128.load(ZEROS);
${each(2 * rows, (i) => `  v128.store(sums, zero, ${i * 16});`)}
  for (; b < end; b += 128, a += ${rows * 16}) {
${each(4, (f) => `    const l${f} = v128.load(b, ${f * 32}), h${f} = v128.load(b, ${f * 32 + 16});`)}
    let x: v128, s: v128, t: v128;
${each(rows, (i) => `${each(4, (f) => `    x = v128.load_splat<i32>(a, ${(f * rows + i) * 4}); ${add('s', `l${f}`, f)} ${add('t', `h${f}`, f)}`)}
    ${store('s', i * 32)}
    ${store('t', i * 32 + 16)}`)}
  }
}
`;
}

/** One row of fours against four panels of int8-fast weights: it waits for memory, and several fours at once would only need more registers. */
function fastStream(dots) {
  const panels = ['b', 'c', 'd', 'e'];
  const add = (panel, p) =>
    `    p${p} = dot${dots}(x, v128.load(${panel}), p${p}, ones); q${p} = dot${dots}(x, v128.load(${panel}, 16), q${p}, ones);`;
  return `
export function streamFast${dots}(a: usize, b: usize, c: usize, d: usize, e: usize, sums: usize, fours: i32): void {
${each(4, (p) => `  let p${p} = v128.load(ZEROS), q${p} = v128.load(ZEROS);`)}
  const end = b + (<usize>fours << 5), ones = v128.load(WORDS_OF_ONE);
  for (; b < end; b += 32, c += 32, d += 32, e += 32, a += 4) {
    const x = v128.load_splat<i32>(a);
${panels.map(add).join('\n')}
  }
${each(4, (p) => `  v128.store(sums, p${p}, ${p * 32}); v128.store(sums, q${p}, ${p * 32 + 16});`)}
}
`;
}

/** The ways to add four products of bytes to a sum (`Dots` in abi.ts), and a switch over them. */
const DOTS = ['Plain', 'Pairs', 'Whole'];
const fastSource = () => `
/** Products of bytes from 0 to 127 and of signed bytes, each two of them added: exact in 16 bits. */
@inline function productsPlain(x: v128, w: v128): v128 {
  const low = i16x8.extmul_low_i8x16_s(x, w), high = i16x8.extmul_high_i8x16_s(x, w);
  return i16x8.add(v128.shuffle<i16>(low, high, 0, 2, 4, 6, 8, 10, 12, 14), v128.shuffle<i16>(low, high, 1, 3, 5, 7, 9, 11, 13, 15));
}

@inline function dotPlain(x: v128, w: v128, sum: v128, ones: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(productsPlain(x, w), ones));
}

@inline export function productsPairs(x: v128, w: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return v128.relaxed_dot<i16>(w, x);
  else return productsPlain(x, w);
}

@inline function dotPairs(x: v128, w: v128, sum: v128, ones: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(productsPairs(x, w), ones));
}

@inline export function dotWhole(x: v128, w: v128, sum: v128, ones: v128 = v128.load(WORDS_OF_ONE)): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(w, x, sum);
  else return dotPlain(x, w, sum, ones);
}
${DOTS.map((dots) => range(MAX_ROWS).map((i) => fastTile(dots, i + 1)).join('') + choose(`tileFast${dots}`, 'a: usize, b: usize, sums: usize, fours: i32', 'a, b, sums, fours', MAX_ROWS) + fastStream(dots)).join('')}
/** The tile of \`rows\` rows. */
export function tileFast(dots: i32, rows: i32, a: usize, b: usize, sums: usize, fours: i32): void {
  if (dots == Dots.whole) tileFastWhole(rows, a, b, sums, fours);
  else if (dots == Dots.pairs) tileFastPairs(rows, a, b, sums, fours);
  else tileFastPlain(rows, a, b, sums, fours);
}

export function streamFast(dots: i32, a: usize, b: usize, c: usize, d: usize, e: usize, sums: usize, fours: i32): void {
  if (dots == Dots.whole) streamFastWhole(a, b, c, d, e, sums, fours);
  else if (dots == Dots.pairs) streamFastPairs(a, b, c, d, e, sums, fours);
  else streamFastPlain(a, b, c, d, e, sums, fours);
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
/** An integer product needs a register of its own before it is added. */
const MAX_INTEGER_ROWS = 5;

/** The whole module. */
export function tilesSource() {
  const parts = [
    `// Written by tiles.mjs.
import { Dots } from './abi';
import { fma } from './math';

/** What a sum starts from. */
const ZEROS: usize = memory.data<f32>([0, 0, 0, 0, 0, 0, 0, 0], 16);
const WORDS_OF_ONE: usize = memory.data<u16>([1, 1, 1, 1, 1, 1, 1, 1], 16);
/** The upper half of a word, and the bits of an f16 in the upper half, moved to the place they have in a float32. */
const MASKS: usize = memory.data<u32>([
  0xffff0000, 0xffff0000, 0xffff0000, 0xffff0000, 0x8fffe000, 0x8fffe000, 0x8fffe000, 0x8fffe000,
], 16);
`,
  ];
  const parameters = 'a: usize, b: usize, c: usize, ldc: usize, k: i32, base: usize, step: usize';
  for (const format of Object.keys(FORMATS)) {
    parts.push(...range(MAX_ROWS).map((i) => tile(format, i + 1)));
    parts.push(choose(`tile${format}`, parameters, 'a, b, c, ldc, k, base, step', MAX_ROWS));
    parts.push(streamPanels(format));
  }
  for (const format of Object.keys(WORDS)) {
    parts.push(...range(MAX_INTEGER_ROWS).map((i) => integerTile(format, i + 1)));
    parts.push(choose(`tile${format}`, 'a: usize, b: usize, sums: usize, pairs: i32', 'a, b, sums, pairs', MAX_INTEGER_ROWS));
  }
  parts.push(int8Stream(), fastSource());
  return parts.join('');
}
