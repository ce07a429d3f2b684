import type { NamedTensorMap, Tensor, Tensor3D, Tensor4D } from '@tensorflow/tfjs-core';
import { DisposedError, OptionError } from '../errors.js';
import { nextTask } from '../event-loop.js';
import type { DecoderSession, NextLogits, TopQuery } from '../generation/session.js';
import { type KeyValue, textMask } from '../layers/attention.js';
import { runFused } from '../layers/fused-kernel.js';
import { type Trace, tidyTree } from '../layers/tidy.js';
import {
  decodeText,
  disposeCache,
  type Git,
  gatherCache,
  type ImageCache,
  imageCacheShape,
  namedParameters,
  type TextCache,
  type TextInput,
  textLength,
  vocabularyLogits,
} from './git.js';

/** What one row is: which image it looks at, and which of its cache columns hold real tokens (1) or padding (0). */
interface Row {
  readonly image: number;
  readonly columns: readonly number[];
  readonly length: number;
}

/**
 * A decoding session over images that are already in the cache: one empty row per image at first. It borrows `image`
 * (never disposes it) and owns what it makes; `dispose()` is due whatever happens. One step at a time.
 *
 * @param trace receives the decoder's intermediates of every step.
 * @throws OptionError for an id outside the vocabulary or a row longer than `maxLength`; DisposedError after `dispose()`.
 */
export function startSession(git: Git, image: ImageCache, trace?: Trace): DecoderSession {
  const { images } = imageCacheShape(image);
  let rows: readonly Row[] = Array.from({ length: images }, (_, imageIndex) => ({
    image: imageIndex,
    columns: [],
    length: 0,
  }));
  let text: TextCache = [];
  let view = viewOf(image, rows); // the image part in the order of the rows, shared where rows are beams of an image
  let disposed = false;

  const guard = (): void => {
    if (disposed) throw new DisposedError({ code: 'session-disposed', detail: 'this decoding session was disposed' });
  };

  /** The logits of one step, [R, 1, V]; the rows and their cache go on by it. */
  const advance = (ids: readonly (readonly number[])[]): Tensor3D => {
    guard();
    checkIds(git, rows, ids);
    const width = Math.max(...ids.map((row) => row.length));
    const padded = ids.map((row) => [...row, ...new Array<number>(width - row.length).fill(git.config.padTokenId)]);
    const next = rows.map((row, r) => appended(row, ids[r]!.length, width));
    const { logits, longer } = tidyTree(() => {
      const mask = textMask(
        width,
        textLength(text),
        next.map((row) => row.columns),
      );
      const positions = padded.map((row, r) =>
        row.map((_, t) => Math.min(rows[r]!.length + t, git.config.maxPositionEmbeddings - 1)),
      );
      const input = { ids: padded, positions, mask };
      const inOne = width === 1 && trace === undefined ? stepInOneCall(git, input, view.image, text) : undefined;
      if (inOne !== undefined) return { logits: inOne.logits, longer: inOne.text };
      const last = ids.map((row) => row.length - 1);
      const step = decodeText(git, { ...input, last }, view.image, text, trace);
      return { logits: vocabularyLogits(git, step.hidden), longer: step.text }; // [R, 1, V]
    });
    disposeCache(text);
    text = longer;
    rows = next;
    return logits;
  };

  const step = async (
    ids: readonly (readonly number[])[],
    wanted: TopQuery | undefined,
  ): Promise<readonly NextLogits[]> => {
    const logits = advance(ids);
    try {
      return (wanted && (await topTokens(logits, wanted))) ?? (await wholeRows(logits));
    } finally {
      logits.dispose();
    }
  };

  return {
    get rows() {
      return rows.length;
    },
    maxLength: git.config.maxPositionEmbeddings,

    step: step as DecoderSession['step'],

    reorder(order) {
      guard();
      const odd = order.find((row) => rows[row] === undefined);
      if (order.length === 0 || odd !== undefined) {
        throw new OptionError({ path: 'rows', code: 'no-such-row', detail: `row ${odd} of ${rows.length} rows` });
      }
      if (order.length === rows.length && order.every((row, r) => row === r)) return;
      rows = order.map((row) => rows[row]!);
      const gathered = text.length === 0 ? text : gatherCache(text, order);
      disposeCache(text);
      text = gathered;
      const old = view;
      view = viewOf(image, rows, old);
      if (old !== view) old.dispose();
    },

    dispose() {
      if (disposed) return;
      disposed = true;
      disposeCache(text);
      view.dispose();
    },
  };
}

/** The rows of logits [R, 1, V]. */
async function wholeRows(logits: Tensor3D): Promise<Float32Array[]> {
  const [rows, , words] = logits.shape;
  const values = (await logits.data()) as Float32Array;
  await nextTask();
  return Array.from({ length: rows }, (_, r) => values.subarray(r * words, (r + 1) * words));
}

/** The likeliest words of each row of logits [R, 1, V]; undefined where the backend cannot find them. */
async function topTokens(logits: Tensor3D, { count, by, asked }: TopQuery): Promise<NextLogits[] | undefined> {
  const found = runFused<Tensor[]>('GitTopTokens', { logits }, { count, by, asked });
  if (found === undefined) return undefined;
  try {
    const [ids, best, parts] = await Promise.all(found.map((x) => x.data() as Promise<Int32Array | Float32Array>));
    await nextTask();
    const rows = logits.shape[0];
    const [few, width] = [ids!.length / rows, best!.length / rows];
    return Array.from({ length: rows }, (_, r) => ({
      ids: ids!.subarray(r * few, (r + 1) * few) as Int32Array,
      logits: best!.subarray(r * width, (r + 1) * width) as Float32Array,
      normalizer: parts![3 * r]! + parts![3 * r + 1]! + parts![3 * r + 2]!,
    }));
  } finally {
    for (const x of found) x.dispose();
  }
}

/** Row `row` with `added` real tokens in `width` new columns. */
function appended(row: Row, added: number, width: number): Row {
  const fresh = Array.from({ length: width }, (_, t) => (t < added ? 1 : 0));
  return { image: row.image, columns: [...row.columns, ...fresh], length: row.length + added };
}

/** The image part of the cache as the rows need it. */
interface ImageView {
  readonly image: ImageCache;
  readonly key: string;
  dispose(): void;
}

/**
 * Attention shares an image among consecutive rows if every image has the same number of them; then only the order of the
 * images matters, and nothing is copied while it is the cache's own. Otherwise each row gets its own copy.
 */
function viewOf(image: ImageCache, rows: readonly Row[], current?: ImageView): ImageView {
  const order = rows.map((row) => row.image);
  const distinct = order.filter((imageIndex, r) => r === 0 || imageIndex !== order[r - 1]);
  const share = order.length / distinct.length;
  const even =
    Number.isInteger(share) && order.every((imageIndex, r) => imageIndex === distinct[Math.floor(r / share)]);
  const images = even ? distinct : order;
  const key = images.join();
  if (current?.key === key) return current;
  const { images: all } = imageCacheShape(image);
  if (images.length === all && images.every((imageIndex, n) => imageIndex === n))
    return { image, key, dispose: () => {} };
  const copy = gatherCache(image, images);
  return { image: copy, key, dispose: () => disposeCache(copy) };
}

function checkIds(git: Git, rows: readonly Row[], ids: readonly (readonly number[])[]): void {
  const fail = (code: string, detail: string): never => {
    throw new OptionError({ path: 'ids', code, detail });
  };
  if (ids.length !== rows.length) fail('row-count', `${ids.length} lists of ids for ${rows.length} rows`);
  ids.forEach((row, r) => {
    if (row.length === 0) fail('no-tokens', `row ${r} has no token to append`);
    const total = rows[r]!.length + row.length;
    const most = git.config.maxPositionEmbeddings;
    if (total > most) fail('too-long', `row ${r} would have ${total} tokens, the model has ${most} positions`);
    const odd = row.find((id) => !Number.isInteger(id) || id < 0 || id >= git.config.vocabSize);
    if (odd !== undefined)
      fail('id-outside-vocabulary', `row ${r} has id ${odd}, the vocabulary has ${git.config.vocabSize} words`);
  });
}

/** The parameters of a step by the checkpoint's names, as the kernel takes them; listed once for each model. */
const parametersOf = new WeakMap<Git['params'], NamedTensorMap>();

function stepParameters(git: Git): NamedTensorMap {
  const known = parametersOf.get(git.params);
  if (known !== undefined) return known;
  const wanted = [...namedParameters(git)].filter(([name]) => /^(git\.(embeddings|encoder)|output)\./.test(name));
  const made = Object.fromEntries(wanted) as NamedTensorMap;
  parametersOf.set(git.params, made);
  return made;
}

/** What the kernel calls a layer's columns, made once: to make a name takes longer than to look it up. */
const NAMES: Readonly<Record<'image' | 'text', Readonly<Record<keyof KeyValue, string>>>>[] = [];

function columnNames(layer: number) {
  const names = (part: string) => ({ key: `${part}.${layer}.key`, value: `${part}.${layer}.value` });
  NAMES[layer] ??= { image: names('image'), text: names('text') };
  return NAMES[layer];
}

/**
 * One new token for each of R rows, through all layers and the vocabulary in one call: logits [R, 1, V] and the longer text cache, with the bits of
 * `decodeText` and `vocabularyLogits`. Undefined where the backend has no such kernel (simd and webgpu have one).
 */
function stepInOneCall(
  git: Git,
  input: TextInput & { readonly positions: readonly (readonly number[])[] },
  image: ImageCache,
  past: TextCache,
): { readonly logits: Tensor3D; readonly text: TextCache } | undefined {
  const { hiddenAct, layerNormEps, numAttentionHeads, numHiddenLayers } = git.config;
  const columns: Record<string, Tensor | undefined> = { mask: input.mask };
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    const names = columnNames(layer);
    for (const part of ['key', 'value'] as const) {
      columns[names.image[part]] = image[layer]?.[part];
      columns[names.text[part]] = past[layer]?.[part];
    }
  }
  const made = runFused<Tensor[]>('GitDecoderStep', columns, {
    parameters: stepParameters(git),
    ids: input.ids.map((row) => row[0]!),
    positions: input.positions.map((row) => row[0]!),
    ...{ layers: numHiddenLayers, heads: numAttentionHeads, epsilon: layerNormEps, activation: hiddenAct },
  });
  if (made === undefined) return undefined;
  const [logits, ...cache] = made as [Tensor3D, ...Tensor4D[]];
  const text = Array.from({ length: numHiddenLayers }, (_, layer) => ({
    key: cache[2 * layer]!,
    value: cache[2 * layer + 1]!,
  }));
  return { logits, text };
}
