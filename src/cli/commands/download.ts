import type { OnLoadEvent } from '../../node.js';
import type { Context } from '../context.js';
import { addExamples } from '../describe/options.js';
import type { Page } from '../describe/page.js';
import type { Progress } from '../progress.js';
import { startProgress } from '../progress.js';
import { EXIT } from '../report.js';

/** Options that say where a checkpoint comes from and where it is kept. */
export interface HubFlags {
  readonly revision?: string;
  readonly cacheDir?: string;
}

/** `image2text download --help`. */
export const downloadPage: Page = {
  name: 'download',
  load: async () => downloadCommand,
  describe(command) {
    command
      .description(
        'Fetch a checkpoint from the Hugging Face Hub into the cache that Python shares, and print its folder.',
      )
      .argument('<model>', 'name on the Hub: microsoft/git-base-textcaps')
      .option('--revision <name>', 'branch, tag or commit; default main')
      .option('--cache-dir <dir>', "instead of Hugging Face's cache (HF_HUB_CACHE, HF_HOME)")
      .option('--quiet', 'no progress bar')
      .option('--json', 'one JSON object: folder, commit, files');
    addExamples(
      command,
      'image2text download microsoft/git-base-coco',
      'image2text caption photo.jpg --model "$(image2text download microsoft/git-base-coco)"',
    );
  },
};

/** `image2text download`: the folder on stdout, a bar on stderr. */
export async function downloadCommand(
  [model]: readonly string[],
  flags: HubFlags & { readonly json?: boolean; readonly quiet?: boolean },
  context: Context,
): Promise<number> {
  const { downloadSnapshot } = await import('../../node.js');
  const { revision, cacheDir, quiet } = flags;
  const bar = percentBar(context, 'percent fetched', quiet);
  const snapshot = await downloadSnapshot(model!, {
    revision,
    cacheDir,
    signal: context.signal,
    onProgress: bar.onDownload,
  }).finally(bar.stop);
  await context.print(flags.json === true ? JSON.stringify(snapshot, undefined, 2) : snapshot.directory);
  return EXIT.done;
}

/** A bar of a hundred steps, which begins with the first. */
export interface PercentBar {
  /** How much is done, 0 to 1; the bar never goes back. */
  show(share: number): void;
  readonly onDownload: OnLoadEvent;
  stop(): Promise<void>;
}

export function percentBar(context: Context, what: string, quiet?: boolean): PercentBar {
  let progress: Promise<Progress> | undefined;
  let shown = 0;
  const show = (share: number): void => {
    const steps = Math.floor(share * 100) - shown;
    if (steps <= 0) return;
    shown += steps;
    progress ??= startProgress(100, context, { what, quiet });
    void progress.then((bar) => {
      for (let step = 0; step < steps; step++) bar.advance();
    });
  };
  return {
    show,
    onDownload(event) {
      if (event.status === 'progress_total') show(event.progress / 100);
    },
    async stop() {
      const running = progress;
      progress = undefined;
      (await running)?.stop();
    },
  };
}
