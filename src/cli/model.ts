import type { Image2Text, LoadOptions, NodeBackend, WeightFormat } from '../node.js';
import type { Context } from './context.js';
import { showLoading } from './loading.js';
import { UsageError } from './report.js';

/** Options that choose and place the model, and say how it sees. */
export interface ModelFlags {
  readonly model: string;
  readonly backend: NodeBackend;
  readonly weights: WeightFormat;
  readonly preprocessing: 'huggingface' | 'original';
  readonly keepRatio?: { readonly min: number; readonly max: number };
  readonly ignoreOrientation?: boolean;
  readonly maxMegapixels?: number;
  readonly quiet?: boolean;
}

/** Starts the backend, loads the model, and frees it when `body` has ended. */
export async function withModel<T>(
  flags: ModelFlags,
  context: Context,
  body: (model: Image2Text) => Promise<T>,
): Promise<T> {
  const options = loadOptions(flags, context.signal);
  const { loadImage2Text, quietTensorflow, startBackend } = await import('../node.js');
  quietTensorflow();
  await startBackend(flags.backend);
  const shown = showLoading(context, flags);
  const model = await loadImage2Text(flags.model, { ...options, onProgress: shown?.hear }).finally(() => shown?.end());
  if (model.warnings.length > 0) context.tell(`image2text: warning: ${model.warnings.join('; ')}`);
  try {
    return await body(model);
  } finally {
    model.dispose();
  }
}

function loadOptions(flags: ModelFlags, signal: AbortSignal): LoadOptions {
  if (flags.keepRatio !== undefined && flags.preprocessing !== 'original') {
    throw new UsageError('--keep-ratio is for --preprocessing original');
  }
  return {
    signal,
    weights: flags.weights,
    route: flags.preprocessing,
    ...(flags.keepRatio === undefined ? {} : { keepRatio: flags.keepRatio }),
    exifOrientation: flags.ignoreOrientation !== true,
    maxPixels: flags.maxMegapixels === undefined ? undefined : Math.max(1, Math.round(flags.maxMegapixels * 1e6)),
  };
}
