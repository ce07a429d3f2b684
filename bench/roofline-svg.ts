/** One kernel under the roof. */
export interface Mark {
  readonly label: string;
  readonly kind: 'f32' | 'bf16' | 'int8';
  /** FLOP a byte, and GFLOP/s. */
  readonly intensity: number;
  readonly rate: number;
  /** Share of what bounds it. */
  readonly ratio: number;
  /** Against tfjs's wasm backend, where that has the kernel. */
  readonly speedup: number | undefined;
  /** Where the label stands; it ends there if `dx` is negative. */
  readonly dx: number;
  readonly dy: number;
}

const WIDTH = 1040;
const HEIGHT = 640;
const PLOT = { left: 84, right: 1000, top: 104, bottom: 540 };
const X = { from: 0.25, to: 512 };
const Y = { from: 1, to: 150 };
const COLORS = { f32: '#2563eb', bf16: '#0d9488', int8: '#ea580c' } as const;
const INK = '#1f2937';
const SOFT = '#6b7280';

const share = (value: number, { from, to }: { from: number; to: number }) =>
  Math.log(value / from) / Math.log(to / from);
const x = (intensity: number) => Math.round(10 * (PLOT.left + share(intensity, X) * (PLOT.right - PLOT.left))) / 10;
const y = (rate: number) => Math.round(10 * (PLOT.bottom - share(rate, Y) * (PLOT.bottom - PLOT.top))) / 10;

const text = (at: [number, number], content: string, attributes = '') =>
  `<text x="${at[0]}" y="${at[1]}" ${attributes}>${content.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;
const line = (from: [number, number], to: [number, number], attributes: string) =>
  `<line x1="${from[0]}" y1="${from[1]}" x2="${to[0]}" y2="${to[1]}" ${attributes}/>`;

/** The roofline as a standalone SVG: rates (GFLOP/s) over intensities (FLOP a byte), both in logarithms. */
export function drawRoofline(marks: readonly Mark[], roof: { peak: number; read: number }, facts: string): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="13" fill="${INK}">`,
    '<title>Roofline of the simd backend: its kernels beside the limits of one core</title>',
    `<rect width="${WIDTH}" height="${HEIGHT}" rx="14" fill="#ffffff"/>`,
    text([PLOT.left, 42], 'The simd backend under the roof of one core', 'font-size="22" font-weight="600"'),
    text([PLOT.left, 66], facts, `fill="${SOFT}"`),
    ...grid(),
    ...roofLines(roof),
    ...marks.flatMap(drawMark),
    ...legend(),
    '</svg>\n',
  ].join('\n');
}

function grid(): string[] {
  const parts: string[] = [];
  for (let at = X.from; at <= X.to; at *= 2) {
    parts.push(line([x(at), PLOT.top], [x(at), PLOT.bottom], 'stroke="#eef0f3"'));
    parts.push(
      text([x(at), PLOT.bottom + 20], at < 1 ? `1/${1 / at}` : `${at}`, `text-anchor="middle" fill="${SOFT}"`),
    );
  }
  for (const at of [1, 2, 5, 10, 20, 50, 100]) {
    parts.push(line([PLOT.left, y(at)], [PLOT.right, y(at)], 'stroke="#eef0f3"'));
    parts.push(text([PLOT.left - 10, y(at) + 4], `${at}`, `text-anchor="end" fill="${SOFT}"`));
  }
  parts.push(
    text(
      [(PLOT.left + PLOT.right) / 2, PLOT.bottom + 44],
      'floating-point operations for each byte of memory',
      'text-anchor="middle"',
    ),
  );
  const middle = (PLOT.top + PLOT.bottom) / 2;
  parts.push(text([30, middle], 'GFLOP/s', `text-anchor="middle" transform="rotate(-90 30 ${middle})"`));
  return parts;
}

function roofLines({ peak, read }: { peak: number; read: number }): string[] {
  const ridge = peak / read;
  const start = Math.max(X.from, Y.from / read);
  const path = `M ${x(start)} ${y(start * read)} L ${x(ridge)} ${y(peak)} L ${x(X.to)} ${y(peak)}`;
  const slope = (Math.atan2(y(2 * read) - y(read), x(2) - x(1)) * 180) / Math.PI;
  const at: [number, number] = [x(ridge / 2.6) - 14, y(peak / 2.6) - 16];
  const floor = `L ${x(X.to)} ${PLOT.bottom} L ${x(start)} ${PLOT.bottom} Z`;
  return [
    `<path d="${path} ${floor}" fill="#2563eb" opacity="0.05"/>`,
    `<path d="${path}" fill="none" stroke="${INK}" stroke-width="2.5" stroke-linejoin="round"/>`,
    text(
      at,
      `reading memory: ${read.toFixed(1)} GB/s`,
      `font-weight="600" text-anchor="middle" transform="rotate(${slope.toFixed(1)} ${at[0]} ${at[1]})"`,
    ),
    text([x(ridge) + 8, y(peak) - 12], `multiply-adds in registers: ${peak.toFixed(1)} GFLOP/s`, 'font-weight="600"'),
  ];
}

function drawMark({ label, kind, intensity, rate, ratio, speedup, dx, dy }: Mark): string[] {
  const [px, py] = [x(intensity), y(rate)];
  const parts: string[] = [];
  if (speedup !== undefined) {
    const stock = y(rate / speedup);
    parts.push(line([px, py], [px, stock], 'stroke="#9ca3af" stroke-width="1.5" stroke-dasharray="3 3"'));
    parts.push(`<circle cx="${px}" cy="${stock}" r="5" fill="#ffffff" stroke="#9ca3af" stroke-width="2"/>`);
  }
  parts.push(`<circle cx="${px}" cy="${py}" r="6.5" fill="${COLORS[kind]}" stroke="#ffffff" stroke-width="1.5"/>`);
  const far = Math.abs(dy) > 16;
  if (far) parts.push(line([px, py], [px + dx, py + dy + (dy < 0 ? 8 : -8)], 'stroke="#9ca3af" stroke-width="1"'));
  const times = speedup === undefined ? '' : `, ${speedup.toFixed(1)}×`;
  const anchor = dx < 0 ? 'text-anchor="end"' : '';
  parts.push(
    text(
      [px + dx, py + dy + 4],
      `${label}: ${(100 * ratio).toFixed(0)} %${times}`,
      `${anchor} stroke="#ffffff" stroke-width="4" paint-order="stroke"`,
    ),
  );
  return parts;
}

function legend(): string[] {
  const entries = [
    ...(['f32', 'bf16', 'int8'] as const).map((kind) => [`simd, ${kind} weights`, COLORS[kind], COLORS[kind]] as const),
    ["tfjs's wasm backend (f32)", '#ffffff', '#9ca3af'] as const,
  ];
  const top = HEIGHT - 26;
  let at = PLOT.left;
  const parts: string[] = [];
  for (const [label, fill, stroke] of entries) {
    parts.push(`<circle cx="${at + 6}" cy="${top - 4}" r="5.5" fill="${fill}" stroke="${stroke}" stroke-width="2"/>`);
    parts.push(text([at + 18, top], label));
    at += 38 + label.length * 6.6;
  }
  parts.push(text([PLOT.right, top], '% of the limit, × against wasm', `text-anchor="end" fill="${SOFT}"`));
  return parts;
}
