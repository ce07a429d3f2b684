import type { LoadEvent, OnLoadEvent } from '../node.js';

/** Where a command reads and writes: `process`, or streams of a test. */
export interface Terminal {
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean | undefined; destroy?(error?: Error): unknown };
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
}

export type OutputStream = NodeJS.WritableStream & {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
};

/** Whoever read our stdout has gone (`image2text … | head`): nothing is left to do, and nothing is wrong. */
export class ReaderGone extends Error {}

/** Writes, and resolves when the text is on its way, so that a slow reader slows us down. */
export function send(stream: OutputStream, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error?: Error | null) => {
      if (error === undefined || error === null) return resolve();
      const gone = ['EPIPE', 'ERR_STREAM_DESTROYED'].includes((error as NodeJS.ErrnoException).code ?? '');
      reject(gone ? new ReaderGone() : error);
    });
  });
}

/** Controls of terminals, ends of lines, characters that change the direction of text, halves of surrogate pairs. */
const UNPRINTABLE =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

const escaped = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Text from a file, a file name or a model, safe to print on one line: such characters are escaped as in JSON. */
export const plain = (text: string): string => text.replace(UNPRINTABLE, (char) => SHORT[char] ?? escaped(char));

/** JSON that is safe to print: the same value, with those characters escaped within its texts. */
export const jsonText = (value: unknown, indent?: number): string =>
  JSON.stringify(value, undefined, indent).replace(UNPRINTABLE, (char) => (char === '\n' ? char : escaped(char)));

/**
 * The last line of a terminal, written again and again. It is cut to the terminal's width and changes no setting of the terminal
 * (cursor, line wrap), so that there is nothing to restore however the process ends. Shows nothing where stderr is no terminal or `CI` is set.
 */
export interface StatusLine {
  show(text: string): void;
  clear(): void;
  /** Leaves what is shown as a line of its own. */
  keep(): void;
}

const CLEAR = '\r\x1b[K';

export function statusLine(stream: OutputStream): StatusLine {
  const visible = stream.isTTY === true && process.env['CI'] === undefined;
  let shown = '';
  return {
    show(text) {
      if (!visible) return;
      const line = cutToWidth(plain(text), columnsOf(stream) - 1); // the last column would wrap in some terminals
      if (line === shown) return;
      stream.write(CLEAR + line);
      shown = line;
    },
    clear() {
      if (shown !== '') stream.write(CLEAR);
      shown = '';
    },
    keep() {
      if (shown !== '') stream.write('\n');
      shown = '';
    },
  };
}

export const columnsOf = ({ columns }: OutputStream): number => Math.max(columns ?? 80, 2); // 0 where the terminal does not know

/** East Asian scripts and emoji take two columns. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

const columnsOfChar = (char: string): number => (WIDE.test(char) ? 2 : 1);

function cutToWidth(text: string, columns: number): string {
  let [used, end] = [0, 0];
  for (const char of text) {
    used += columnsOfChar(char);
    if (used > columns) return text.slice(0, end);
    end += char.length;
  }
  return text;
}

/** A bar in the status line. */
export interface Progress {
  advance(): void;
  /** Leaves the bar as it is. */
  stop(): void;
}

const NO_PROGRESS: Progress = { advance: () => {}, stop: () => {} };
const WIDEST_BAR = 40;
const NARROWEST_BAR = 5;

/** Starts a bar for `total` things; nothing for one alone, which would only flicker. */
export function startProgress(
  total: number,
  { status, terminal }: { readonly status: StatusLine; readonly terminal: Terminal },
  { what = 'images', quiet = false }: { readonly what?: string; readonly quiet?: boolean | undefined } = {},
): Progress {
  if (quiet || total < 2) return NO_PROGRESS;
  const started = performance.now();
  let done = 0;
  const show = (): void => {
    const seconds = (performance.now() - started) / 1000;
    const rate = done === 0 ? '-' : (done / seconds).toPrecision(2);
    const left = done === 0 ? '-' : duration((seconds / done) * (total - done));
    const text = `${done}/${total} ${what}, ${rate} a second, ${left} left`;
    status.show(withBar(done / total, text, terminal));
  };
  show();
  return {
    advance() {
      done++;
      show();
    },
    stop() {
      show();
      status.keep();
    },
  };
}

/** A text with a bar before it, where the terminal has room for one. */
export function withBar(share: number, text: string, { stderr }: Pick<Terminal, 'stderr'>): string {
  const width = Math.min(columnsOf(stderr) - text.length - 2, WIDEST_BAR);
  const filled = Math.round(width * share);
  return width < NARROWEST_BAR ? text : `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${text}`;
}

/** `0:07`, `1:02:03`. */
export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number): string => String(value % 60).padStart(2, '0');
  const [minutes, hours] = [Math.floor(whole / 60), Math.floor(whole / 3600)];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole)}` : `${minutes}:${two(whole)}`;
}

/** A model that is there sooner, such as the demo, shows no line, which would only flicker. */
const PATIENCE_MS = 500;

/** Shows in the status line how far a download or the loading of weights is. */
export function showLoading(
  status: StatusLine,
  {
    name,
    quiet = false,
    patience = PATIENCE_MS,
  }: { readonly name?: string; readonly quiet?: boolean | undefined; readonly patience?: number } = {},
): OnLoadEvent {
  const from = performance.now() + patience;
  return (event) => {
    const line = quiet ? undefined : describeEvent(event, name);
    if (line !== undefined && performance.now() >= from) status.show(line);
  };
}

/** Of a download the sum is shown, not each file. */
function describeEvent(event: LoadEvent, as?: string): string | undefined {
  const downloads = event.status === 'progress_total';
  if (!downloads && !(event.status === 'progress' && event.file === 'weights')) return undefined;
  const { name, progress, total } = event;
  const megabytes = Math.max(1, Math.round(total / 1e6));
  return `${downloads ? 'downloading' : 'loading'} ${as ?? name}: ${Math.floor(progress)}% of ${megabytes} MB`;
}
