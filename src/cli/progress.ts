import type { LoadEvent, OnLoadEvent } from '../node.js';
import type { StatusLine, Terminal } from './terminal.js';
import { columnsOf } from './terminal.js';

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
  const room = Math.min(columnsOf(stderr) - text.length - 2, WIDEST_BAR);
  const filled = Math.round(room * share);
  return room < NARROWEST_BAR ? text : `${'█'.repeat(filled)}${'░'.repeat(room - filled)} ${text}`;
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
