import type { Context } from './context.js';
import type { OutputStream } from './terminal.js';

/** A bar on stderr while several things are worked on; nothing where stderr is no terminal. */
export interface Progress {
  advance(): void;
  /** Runs something that writes to the terminal without tearing the bar. */
  aside<T>(body: () => T): T;
  stop(): void;
}

const SILENT: Progress = { advance: () => {}, aside: (body) => body(), stop: () => {} };

export async function startProgress(
  total: number,
  { terminal: { stderr } }: Context,
  { what = 'images', quiet = false }: { readonly what?: string; readonly quiet?: boolean | undefined } = {},
): Promise<Progress> {
  if (quiet || total < 2 || stderr.isTTY !== true || process.env['CI'] !== undefined) return SILENT;
  const { default: cliProgress } = await import('cli-progress');
  const format = `{bar} {value}/{total} ${what}, {rate}, {eta_formatted} left`;
  const bar = new cliProgress.SingleBar(
    { format, stream: keepingPlace(stderr), hideCursor: true, etaBuffer: 50 },
    cliProgress.Presets.shades_classic,
  );
  const started = performance.now();
  let done = 0;
  bar.start(total, 0, { rate: '- a second' });
  return {
    advance() {
      done++;
      bar.update(done, { rate: `${((done * 1000) / (performance.now() - started)).toPrecision(2)} a second` });
    },
    aside(body) {
      stderr.write('\r\x1b[K');
      return body();
    },
    stop: () => bar.stop(),
  };
}

/**
 * The bar's library saves the cursor's place at the start and goes back to it at the end, which would be into the middle of what was printed
 * meanwhile: those two commands are left out.
 */
const keepingPlace = (stream: OutputStream): OutputStream =>
  Object.create(stream, {
    write: { value: (text: string) => text === '\x1b7' || text === '\x1b8' || stream.write(text) },
  }) as OutputStream;
