/** A bar on stderr while several pictures are worked on; nothing where stderr is no terminal. */
export interface Progress {
  advance(): void;
  /** Runs something that writes to stderr without tearing the bar. */
  aside<T>(body: () => T): T;
  stop(): void;
}

export async function startProgress(total: number): Promise<Progress> {
  if (total < 2 || !process.stderr.isTTY || process.env['CI'] !== undefined) {
    return { advance: () => {}, aside: (body) => body(), stop: () => {} };
  }
  const { default: cliProgress } = await import('cli-progress');
  const format = '{bar} {value}/{total} pictures, {eta_formatted} left';
  const bar = new cliProgress.SingleBar(
    { format, stream: process.stderr, hideCursor: true },
    cliProgress.Presets.shades_classic,
  );
  bar.start(total, 0);
  return {
    advance: () => bar.increment(),
    aside(body) {
      process.stderr.write('\r\x1b[K');
      return body();
    },
    stop: () => bar.stop(),
  };
}
