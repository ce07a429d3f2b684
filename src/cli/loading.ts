import type { LoadEvent, OnLoadEvent } from '../node.js';
import type { Context } from './context.js';
import { plain } from './terminal.js';

/** A line on stderr that says how far a download or the loading of weights is. */
export interface LoadingLine {
  readonly hear: OnLoadEvent;
  /** Takes the line away. */
  end(): void;
}

/** A model that is there sooner, such as the demo, shows no line, which would only flicker. */
const PATIENCE_MS = 500;

/** `undefined` where nobody looks: stderr is no terminal, `CI` is set, or `--quiet` is given. */
export function showLoading(
  { terminal: { stderr } }: Pick<Context, 'terminal'>,
  { quiet = false, patience = PATIENCE_MS }: { readonly quiet?: boolean; readonly patience?: number } = {},
): LoadingLine | undefined {
  if (quiet || stderr.isTTY !== true || process.env['CI'] !== undefined) return undefined;
  const from = performance.now() + patience;
  let shown = '';
  return {
    hear(event) {
      const line = describe(event);
      if (line === undefined || line === shown || performance.now() < from) return;
      shown = line;
      stderr.write(`\r\x1b[K${line.slice(0, (stderr.columns ?? 80) - 1)}`);
    },
    end() {
      if (shown !== '') stderr.write('\r\x1b[K');
    },
  };
}

/** Of a download the sum is shown, not each file. */
function describe(event: LoadEvent): string | undefined {
  const downloads = event.status === 'progress_total';
  if (!downloads && !(event.status === 'progress' && event.file === 'weights')) return undefined;
  const { name, progress, total } = event;
  const megabytes = Math.max(1, Math.round(total / 1e6));
  return `${downloads ? 'downloading' : 'loading'} ${plain(name)}: ${Math.floor(progress)}% of ${megabytes} MB`;
}
