/**
 * Two facts about every code point of the Unicode Character Database 14.0.0, run-length coded: what `unicodedata` of
 * the reference's Python 3.11 answers, so that the ids do not depend on the Unicode version of the JavaScript engine.
 */

/**
 * General categories from U+0000 up: a letter and the run's length in base 36 (none: 1). C: C*, M: Mn, P: P*, Z: Z*,
 * L: all others.
 */
const CATEGORY_RUNS = `
CwZP3LP6LP4LaP2L3P2LqP3LPLrPLPLCxZPL5PL3PLCL8P2L3PL3PLg0M34L8C2L4PLC4L3PL3CLCLkCL68M5L4oCL12C2LP6L15P2C2L3CM19PMPM2PM2
PMC8LrC4L4P2ChL3P2LP2L2MbPCP3L17MlLaP4L2ML2rPLM7CLM6L2M2LM4LiPeC2LMLuMrC2L2hMbLCeL17M9L3P3LC2MLoM4LM9LM3LM5C2PfCLpM3C2
PCLbC5LvC9M8L16MoCMwL1jMLML4M8L4ML3M7LaM2P2LaPLgML2CL8C2L2C2LmCL7CLC3L4C2ML4M4C2L2C2L2MLC8LC4L2CL3M2C2LnPMC2M2LCL6C4L2
C2LmCL7CL2CL2CL2C2MCL3M2C4M2C2M3C3MC7L4CLC7LaM2L3MPCaM2LCL9CL3CLmCL7CL2CL5C2ML4M5CM2LCL2MC2LCfL2M2C2LaPLC7LM6CML2CL8C2
L2C2LmCL7CL2CL5C2ML2MLM4C2L2C2L2MC7M2LC4L2CL3M2C2LiCaMLCL6C3L3CL4C3L2CLCL2C3L2C3L3C3LcC4L2ML2C3L3CL3MC2LC6LCeLlC5ML3M
L8CL3CLnCLgC2MLM3L4CM3CM4C7M2CL3C2LC2L2M2C2LaC7PL9ML2PL8CL3CLnCLaCL5C2ML2ML5CML2CL2M2C7L2C6L2CL2M2C2LaCL2CdM2LbCL3CL15
M2L4M4CL3CL3ML2C4LeM2C2LqCML2CLiC3LoCL9CLC2L7C3MC4L3M3CMCL8C6LaC2L2PCcL1cML2M7C4L8M8PLaP2C11L2CLCL5CLoCLCLaML2M9LC2L5C
LCM6C2LaC2L4CwL4PfLPL3M2LrMLMLMP4LaCL10C4MeLM5PM2L5MbCM10CL8ML6CL2P5L4P2C11L19M4LM6LM2L2M2LbP6L8M2L4M3LgM4LdML2M2L6MLf
ML14CLC5LC2L17PL99CL4C2L7CLCL4C2L15CL4C2LxCL4C2L7CLCL4C2LfCL1lCL4C2L1vC2M3P9LkC3LqC6L2eC2L6C2PLh9PLhZLqP2C3L23P3LbC7Li
M3LC9LjM2LP2C9LiM2CcLdCL3CM2CcL1gM2LM7L8ML2MbP3LP3L2MC2LaC6LaC6PbM3CMLaC6L2hC7L5M2LyMLC5L1yCaLvCM3L4M2L3C4L2ML6M3C4LC3
P2L14C2L5CbL18C4LqC6LbC3L1lM2L2MC2P2L1iMLM7CMLML2M8L6MaC2MLaC6LaC6P7LP6C2MeLMgC1dM4L1cMLM5LML5MLaC3LaP7LaM9L9P2CM2LwM4
L2M2LM3L1kMLM2L3MLM3L2C8P4L18M8L2M2C3P5LaC3L1dP2L9C7L17C2L3P8C8M3PMdLM7L4ML6ML3M2LC5L5cM1sL7qC2L6C2L12C2L6C2L8CLCLCLC
LvC2L1hCLfCLeC2L6CLjC2L3CL9CZbC5PoZ2C5ZPkLPdLPcZCgL2C2L9P2LeP2CLdC3LxCfMdL4ML3McCfL3wC4LagP4LtP2L70CpLbClLlkPeL27P2Lv
PaLb7PmL1rP4LwP2LaeC2LwCL9kM3L2C5P4LP2L12CLC5LC2L1kC7LPCeMLnC9L7CL7CL7CL7CL7CL7CL7CL7CMwP1bLPwL2PcCyLqCL2hCcL5yCqLcC4Z
P3L4PaL2PcLaM4L2PLcPL2CL2eC2M2L5PL2iPL4C5L17CL2mCL2cCcL1bCLmlpC3L1jC9L1aP2L7hP3LsCkL1bML3PMaPLvM2L28M2P6C8L5nC5L2CLCL5
CoLgML3ML4MLpM2L5MC3LaC6L1gP4C8L1wM2C8P2LaC6MiL6P3LPL2ML12M8P2LnMbL2CbPLtC3M3L1cML2M4L2M2L3PdCLbC4P2L5MLpCL15M6L2M2L2
M2C9L3ML8MLC2LaC2P4LsML1fMLM3L2M2L5M2LMLCoL3P2LcM2L2P2L4MCaL6C2L6C2L6C9L7CL7CL1oC4L39ML2ML2PLMC2LaC6L8mcCcLnC4L1dC6is
La6C2L2yC12L7CcL5C5LMLoCL5CLCL2CL2CL3hCgLa3P2L28C2L1iC7LCwLgMgPaC6MgPzCPeLPL3CPLP2C4L5CL3rC4P3LP6LP4LaP2L3P2LqP3LPLrPL
PLP7L2hC3L6C2L6C2L6C2L3C3L7CL7CdL2C2LcCLqCLjCL2CLfC2LeCyL3fC5P3C4L19C3L2gCLdC3LC1bL19MC3mLtC3L1dCfMLrC4L10C9LuC5L12M5
C5LuCPL10C4L8PL5C16L4eC2LaC6L10C4L10C4L14C8L1gCbPLbCLfCL7CL2CLbCLfCL7CL2C1vL8nC9LmCaL8CoL6CL16CL9C1xL6C2LCL18CL2C3LC2
LnCPL1zC8L9C1cLjCL2C5LxC3PLqC5PC1sL1kC4LkC2L1bM3CM2C5M4L4CL3CLtC2M3C4ML9C7P9C7LvPLwCwL11M2C4L5P7C9L1iC3P7LmC2LrC5LqC7
P4CcL7C28L21C1jL1fCdL1fC7L16M4C8LaC86LvCL16CM2PC2L2C26L14C8LmMbL4P5CmLiM4P4C12LsCkLnC9LML1iMfP7C4LuML2M2LC9M3L1dM4L2M2
P2CP4MCdLpC7LaC6M3L10M5LM8CLaP4L4C8LzMP2LC9M2L1gM9L6P4M4PLMLbPLP3CLkCbLiCLsM3L2MLM2P6MC1tL7CLCL4CLfCLaPC6L1bML3M8C5La
C6M2L2CL8C2L2C2LmCL7CL2CL5CM2L3ML4C2L2C2L3C2LC6LC5L7C2M7C3M5C3vL1kM8L2M3LML4P5LaP2CPML3CuL1fM6LML4M2LM2L2PLC8LaC4mL1e
M4C2L4M2LM2PnL4M2CyL1fM8L2MLM2P3LCbLaC6PdCjL17MLML2M6LMLPC6LaC1iLrC2M3L2M4LM5C4LcP3L8C55L1bM9LM2PC2sL2bCcL8C2LC2L8CL2C
LuCL2C2M2LML4MP3C9LaC1yL8C2L16M4C2M2L4MLPL2CrLMaL14M6L2M4P8MC8LM6L2M3L1aMdLM2P3LP5CdL21C7bL9CL12M7CM6LMLP5CaLtC3P2LuC2
MmCLM7LM2LM2C21L7CL2CL12M6C3MCM2CM7LMC8LaC6L6CL2CL11CM2CL2MLMLC7LaC8mLjM2L2P2C53LCfL1eCdPLpmC2uL33CP5CbL5gC218L2pP2Cd
LtrC34hLg7C6ntLftC7LvCLaC4P2L27CLaC6LuC2M5PCaL1cM7P5L8PLCaLaCL7CLlC5LjCj4L2fP4C2tL23C4ML1kC7M4LdC1sL2PLMCbL2CeL4qgC8
LyeC16L9C6w7L4CL7CL2CL83C19L3ChL4C8Lb0C1s4L2zC5LdC3L9C7LaC2LM2PC3moM1aC2MnC9L38C1oL6uCaL13C2L1qM3L9C8M8L2M7LuM4L1pCl
L1uM3LC4aLkCcL2fC9LpC3rL2dCL1zCL2C2LC2L2C2L4CLcCLCL7CL1tCL4C2L8CL7CLsCL4CL5CLC3L7CL9gC2L84C2LfmM1jL4M1eL8MLeML2P5CfM5C
MfCuoLvC69M7CMhC2M7CM2CM5C5xL19C3M7L7C2LaC4L2C8wLuMChL18M4LaC5LCyoL7CL4CL2CLfCL5hC2L9M7C15L1wM7LC4LaC4P2CltL1wC24L1p
C5eL4CLrCL2CLC2LCLaCL4CLCLC6LC4LCLCLCL3CL2CLC2LCLCLCLCLCL2CLC2L4CL7CL4CL4CLCLaCLhC5L3CL5CLhC1gL2C7iL18C4L2sCcLfC2LfCLf
CL11CaL4uC1kLtCdL18C4L9C7L2CeL6C4aLrcC5LgC3LdC3L38CcL2hC7LcC4LCfLcC4L1kC8LaC6L14C8LuC2L2C26L9gCcLeC2L5C3L5C3L7C9LtC3Lb
C5L6CaLaC6L8C8L7C9L43CL1jC11LaCsmLwyoCwL37dC7L66C2L4g2CeL5rlC2e7Lf2C15uL3t7CfcmtM6oC47bk
`;

/**
 * Canonical combining classes from U+0000 up: Z for class 0, N with the class as two base-36 digits; then the length
 * as above.
 */
const COMBINING_RUNS = `
ZlcN6elN6gN644N6gN60N645N5m2N644N5m2N64bN015N644N6e8N6oN6eN643N6e3N642ZN6e3N644N6eN6gN642N6eN6hN6i2N6hN6i2N6hN6edZ7n
N6e5Z7dN64N6e4N64N6e3N66N64N6e6N646N6e2N64N6e2N66N6cN6eN0aN0bN0cN0dN0eN0fN0gN0hN0iN0j2N0kN0lN0mZN0nZN0oN0pZN6eN64ZN0i
Z20N6e8N0uN0vN0wZ1cN0rN0sN0tN0uN0vN0wN0xN0yN6e2N642N6e5N64N6e2N64ZgN0zZ2tN6e7Z2N6e4N64N6eZ2N6e2ZN64N6e2N64ZzN10ZuN6e
N64N6e2N64N6e2N643N6eN642N6eN64N6e3N64N6eN64N6eN64N6eN64N6e2Z4gN6e7N64N6eZ9N64ZoN6e4ZN6e9ZN6e3ZN6e5Z17N643Z1oN6eN643
N6e4Z16N6e5N645N6eeZN64N6e2N64N6e2N64N6e3N643N0rN0sN0tN6e3N64N6e2N642N6e5Z1oN07ZgN09Z3N6eN64N6e2Z2vN07ZgN09Z1cN6eZ1p
N07ZgN09Z32N07ZgN09Z32N07ZgN09Z3jN09Z32N07ZgN09Z7N2cN2jZ2tN07ZgN09Z31N092ZgN09Z3gN09Z31N2v2N09ZdN2z4Z30N3a2N09ZdN3e4
Z24N642ZrN64ZN64ZN60Z1jN3lN3mZN3oZ5N3m4Z2N3mZN6e2N09ZN6e2Z1qN64Z34N07ZN092Z2aN64ZjzN6e3ZqcN092ZuN09Z4dN09ZaN6eZ5nN6c
Z3zN66N6eN64Z63N6eN64Z1zN09ZkN6e8Z2N64Z1cN6e5N646N6e2N64ZN642N6e2N642N6e5N64N6e4Z2tN07ZfN09Z12N6eN64N6e7Z1iN092Z1mN07
ZbN092Z1vN07Z48N6e3ZN01N645N6e2N644N6eZN017Z4N64Z6N6eZ3N6e2Z5iN6e2N64N6e7N64N6e2N6iN5yN64N5mN6e11N6gN6c2N64N62N6eN6h
N64N6eN64Zk0N6e2N012N6e4N013N6e2Z4N6eZ3N012N6eN64N6eN012N644N6eZ2daN6e3Z3xN09Z2oN6ewZfeN62N6cN6gN66N682Z2xN082Zn9wN6e
Z4N6eaZwN6e2Z28N6e2Z7oN09Z11N09Z47N09ZrN6eiZ1lN643Z11N09Z2nN07ZcN09Z6nN6eZN6e2N64Z2N6e2Z5N6e2ZN6eZ1gN09Z6uN09Zfn4N0q
ZldN6e7N647N6e2Zr1N64Z6aN64Z45N6e5Z1aqN64ZN6eZ14N6eN01N64Z4N09Z4lN6eN64ZfxN6e4ZarN6e2Z49N642N6e3N64N6eN644Z1dN6eN64N6e
N64Z5cN09Z15N09ZeN09Z1lN09N07Z1xN6e3Z1cN092Z1qN07Z24N09Z9N07Z2yN09N07Z4yN07N09Z28N072ZgN09ZoN6e7Z3N6e5Z5pN09Z3N07ZnN6e
Z2rN09N07Z6zN09N07Z3iN09Z3aN09N07Z37N09Z7hN09N07Z76N092Z4N07Z4cN09Z2bN09ZiN09Z29N09ZbpN09Z76N07ZN092Z29N09Zfa0N015Z1n
N6e7ZxlN062Zf58N01Z43qN602N013Z3N6aN605Z8N648Z2N6e5N642ZuN6e4Z44N6e3Z2pnN6e7ZN6ehZ2N6e7ZN6e2ZN6e5Z79N6e7ZafN6eZ1pN6e4
Z15sN647Z31N6e6N07Zl705
`;

/**
 * C: control, format, private, surrogate or unassigned; M: non-spacing mark; P: punctuation; Z: separator; L: all
 * others.
 */
export type Kind = 'C' | 'M' | 'P' | 'Z' | 'L';

interface Runs<T> {
  /** First code point of each run, ascending. */
  readonly starts: Int32Array;
  readonly values: readonly T[];
  /** The run of each code point below U+10000, filled when it is first needed. */
  readonly table: Uint16Array;
}

function decode<T>(coded: string, pattern: RegExp, read: (code: string) => T): Runs<T> {
  const starts: number[] = [];
  const values: T[] = [];
  let next = 0;
  for (const [, code, length] of coded.matchAll(pattern)) {
    starts.push(next);
    values.push(read(code!));
    next += length === '' ? 1 : Number.parseInt(length!, 36);
  }
  return { starts: Int32Array.from(starts), values, table: new Uint16Array(0x10000) };
}

const kinds = decode(CATEGORY_RUNS, /([CMPZL])([0-9a-z]*)/g, (code) => code as Kind);
const combining = decode(COMBINING_RUNS, /(Z|N[0-9a-z]{2})([0-9a-z]*)/g, (code) =>
  code === 'Z' ? 0 : Number.parseInt(code.slice(1), 36),
);

function lookUp<T>({ starts, values, table }: Runs<T>, codePoint: number): T {
  if (codePoint < table.length) {
    if (table[table.length - 1] === 0) fillTable(table, starts);
    return values[table[codePoint]!]!;
  }
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle]! <= codePoint) low = middle;
    else high = middle - 1;
  }
  return values[low]!;
}

function fillTable(table: Uint16Array, starts: Int32Array): void {
  for (const [run, start] of starts.entries()) {
    if (start < table.length) table.fill(run, start); // the later runs over it again
  }
}

/** Kind of a code point (0 to 0x10FFFF) in Unicode 14.0.0, whatever the engine knows; lone surrogates are 'C'. */
export const kindOf = (codePoint: number): Kind => lookUp(kinds, codePoint);

/** Canonical combining class of a code point in Unicode 14.0.0; 0 for starters. */
export const combiningClassOf = (codePoint: number): number => lookUp(combining, codePoint);

/**
 * The text normalization of `BasicTokenizer` (transformers 4.40, models/bert/tokenization_bert.py), step by step.
 * Every function is total and linear in the length of its text, and goes by Unicode 14.0.0.
 */

const NOT_PLAIN = /[^\t\n\r\x20-\x7e]/;

/** True where a step for other scripts can change nothing. */
const isPlain = (text: string): boolean => !NOT_PLAIN.test(text);

/**
 * First and last code points of the CJK ideograph blocks that BERT spaces out; kana and hangul are words as elsewhere.
 */
const IDEOGRAPHS: readonly (readonly [number, number])[] = [
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xf900, 0xfaff],
  [0x20000, 0x2a6df],
  [0x2a700, 0x2b73f],
  [0x2b740, 0x2b81f],
  [0x2b820, 0x2ceaf],
  [0x2f800, 0x2fa1f],
];

const isIdeograph = (codePoint: number): boolean =>
  codePoint >= 0x3400 && IDEOGRAPHS.some(([first, last]) => first <= codePoint && codePoint <= last);

/** The text with what `change` gives in place of a code point; undefined: it stays. What stays is copied in long pieces. */
function mapCodePoints(text: string, change: (codePoint: number) => string | undefined): string {
  let mapped = '';
  let copied = 0;
  for (let at = 0; at < text.length; ) {
    const codePoint = text.codePointAt(at)!;
    const end = at + (codePoint > 0xffff ? 2 : 1);
    const put = change(codePoint);
    if (put !== undefined) {
      if (copied < at) mapped += text.slice(copied, at);
      mapped += put;
      copied = end;
    }
    at = end;
  }
  return copied === 0 ? text : mapped + text.slice(copied);
}

/**
 * Drops NUL, U+FFFD and everything of category C (control and format characters, private use, lone surrogates, and
 * code points that Unicode 14.0.0 leaves unassigned), and makes tabs, line ends and separators spaces.
 */
export function cleanText(text: string): string {
  if (isPlain(text)) return text.replace(/[\t\n\r]/g, ' ');
  return mapCodePoints(text, (codePoint) => {
    const kind = kindOf(codePoint);
    if (kind === 'Z' || codePoint === 9 || codePoint === 10 || codePoint === 13) return ' ';
    return kind === 'C' || codePoint === 0xfffd ? '' : undefined;
  });
}

/** Puts a space on both sides of every CJK ideograph. */
export function spaceIdeographs(text: string): string {
  if (isPlain(text)) return text;
  return mapCodePoints(text, (codePoint) =>
    isIdeograph(codePoint) ? ` ${String.fromCodePoint(codePoint)} ` : undefined,
  );
}

/**
 * Lower case by the full Unicode mapping, character by character, as Python does it here: a final capital sigma
 * becomes an inner one. Code points unassigned in 14.0.0 stay as they are, also where the engine knows a lower case.
 */
export function lowerCase(text: string): string {
  if (isPlain(text)) return text.toLowerCase();
  return mapCodePoints(text, (codePoint) => {
    if (kindOf(codePoint) !== 'L') return undefined; // no mark, punctuation mark or separator has a lower case
    const char = String.fromCodePoint(codePoint);
    const lower = char.toLowerCase();
    return lower === char ? undefined : lower;
  });
}

/** Canonical composition. */
export function compose(text: string): string {
  return isPlain(text) ? text : orderLongMarkRuns(text).normalize('NFC');
}

/** Canonical decomposition without the non-spacing marks. */
export function stripAccents(text: string): string {
  if (isPlain(text)) return text;
  const decomposed = orderLongMarkRuns(text).normalize('NFD');
  return mapCodePoints(decomposed, (codePoint) => (kindOf(codePoint) === 'M' ? '' : undefined));
}

const MARK = /\p{M}/u;

const isMark = (codePoint: number): boolean =>
  codePoint > 0x2ff &&
  (kindOf(codePoint) === 'M' || (kindOf(codePoint) === 'L' && MARK.test(String.fromCodePoint(codePoint))));

/** Shorter runs of marks go to the engine as they are: the square of 32 is a constant. */
const LONG_RUN = 33;

/**
 * Puts long runs of combining marks into canonical order (Unicode 3.11), which leaves the text canonically equivalent.
 *
 * Why: engines sort the marks of a run by insertion while they normalize, which is quadratic in the run's length (V8:
 * 2 s for 100,000 alternating marks). Marks that are in order already cost nothing, and a bucket for each class sorts
 * in linear time. The runs are found by a loop, because a regular expression overflows its stack at a million marks.
 */
export function orderLongMarkRuns(text: string): string {
  let ordered = '';
  let copied = 0;
  let start = 0; // of the run of marks that ends at `at`
  let at = 0;
  const closeRun = () => {
    if (at - start >= LONG_RUN) {
      ordered += text.slice(copied, start) + orderRun(text.slice(start, at));
      copied = at;
    }
  };
  while (at < text.length) {
    const codePoint = text.codePointAt(at)!;
    const end = at + (codePoint > 0xffff ? 2 : 1);
    if (!isMark(codePoint)) {
      closeRun();
      start = end;
    }
    at = end;
  }
  closeRun();
  return copied === 0 ? text : ordered + text.slice(copied);
}

function orderRun(run: string): string {
  const points = decompose(run);
  const ordered = new Uint32Array(points.length);
  const starts = new Uint32Array(257); // of each class among the marks of a segment, which may be moved across each other
  for (let from = 0, end = 0; from < points.length; from = end) {
    starts.fill(0);
    for (end = from; end < points.length; end++) {
      const combiningClass = combiningClassOf(points[end]!);
      if (combiningClass === 0) break; // nothing moves across a mark of class 0, such as U+034F
      starts[combiningClass + 1]!++;
    }
    for (let c = 1; c < starts.length; c++) starts[c]! += starts[c - 1]!;
    for (let i = from; i < end; i++) ordered[from + starts[combiningClassOf(points[i]!)]!++] = points[i]!;
    for (; end < points.length && combiningClassOf(points[end]!) === 0; end++) ordered[end] = points[end]!;
  }
  let text = '';
  for (let at = 0; at < ordered.length; at += 4096) text += String.fromCodePoint(...ordered.subarray(at, at + 4096));
  return text;
}

/** The code points of the canonical decomposition, in the order of the text. */
function decompose(run: string): number[] {
  const known = new Map<number, readonly number[]>();
  const points: number[] = [];
  for (let at = 0; at < run.length; ) {
    const codePoint = run.codePointAt(at)!;
    at += codePoint > 0xffff ? 2 : 1;
    let parts = known.get(codePoint);
    if (parts === undefined) {
      parts = Array.from(String.fromCodePoint(codePoint).normalize('NFD'), (mark) => mark.codePointAt(0)!);
      known.set(codePoint, parts);
    }
    for (let i = 0; i < parts.length; i++) points.push(parts[i]!);
  }
  return points;
}
