import type { Caption } from '../node.js';
import type { Input } from './inputs.js';
import type { LineFile } from './line-file.js';
import { openLineFile } from './line-file.js';
import type { FormatFlags } from './results.js';
import { captionFields, captionKey, captionRule, captionTsv, fileFormat } from './results.js';
import type { Sidecars } from './sidecars.js';
import { planSidecars } from './sidecars.js';

export interface StoreFlags extends FormatFlags {
  readonly sidecar?: string;
  readonly output?: string;
  readonly skipExisting?: boolean;
}

/** Where captions are kept, and what of them is there already. */
export interface CaptionStore {
  /** Images that something is missing of, in order. */
  readonly missing: readonly Input[];
  put(input: Input, caption: Caption): Promise<void>;
  close(): Promise<void>;
}

/** Opens sidecars and the output file, as far as asked for. An image is done when it is in all of them; only what is missing is written. */
export async function openCaptionStore(inputs: readonly Input[], flags: StoreFlags): Promise<CaptionStore> {
  const resume = flags.skipExisting === true;
  const sidecars = flags.sidecar === undefined ? undefined : planSidecars(inputs, flags.sidecar);
  const format = flags.output === undefined ? undefined : fileFormat(flags.output, flags);
  const names = inputs.map(({ name }) => name);
  const lines = format && (await openLineFile(flags.output!, captionRule(format, names), resume));
  const needed = new Map<Input, Need>();
  for (const input of inputs) {
    const need = {
      sidecar: sidecars !== undefined && !(resume && (await sidecars.has(input))),
      line: lines !== undefined && !lines.claim(captionKey(input.name, format!)),
    };
    if (need.sidecar || need.line) needed.set(input, need);
  }
  return {
    missing: [...needed.keys()],
    async put(input, caption) {
      const { sidecar, line } = needed.get(input)!;
      if (sidecar) await (sidecars as Sidecars).write(input, caption.text);
      if (line) await (lines as LineFile).append([captionLine(input.name, caption, format!)]);
    },
    close: async () => lines?.close(),
  };
}

interface Need {
  readonly sidecar: boolean;
  readonly line: boolean;
}

/** A caption as one line of a file. */
export const captionLine = (name: string, caption: Caption, format: 'jsonl' | 'tsv'): string =>
  format === 'tsv' ? captionTsv(name, caption.text) : JSON.stringify({ file: name, ...captionFields(caption) });
