import * as z from 'zod/mini'; // its export `z` would keep bundlers from leaving out what is not used: 400 kB
import { ConfigError, quote } from '../errors.js';
import type { Activation } from '../layers/linear.js';
import { ACTIVATIONS } from '../layers/linear.js';

/** The CLIP vision tower's sizes; `grid` and `imageTokens` are derived. */
export interface VisionConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Side of the square image the model was trained on, pixels. */
  readonly imageSize: number;
  /** Side of a patch, pixels. */
  readonly patchSize: number;
  readonly hiddenAct: Activation;
  readonly layerNormEps: number;
  /** Patches along a side. */
  readonly grid: number;
  /** Class token + patches of an image of the trained size: I. */
  readonly imageTokens: number;
  /** How many tokens each layer merges into others (token-merging.ts); no part of a checkpoint, 0 by default. */
  readonly tokenMerging?: number;
}

/** A checked config.json of model_type "git". */
export interface GitConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly intermediateSize: number;
  readonly hiddenAct: Activation;
  readonly layerNormEps: number;
  /** Is the output matrix the word embedding? A file that stores one of its own overrules it. */
  readonly tieWordEmbeddings: boolean;
  /** How many text tokens a sequence may have. */
  readonly maxPositionEmbeddings: number;
  readonly bosTokenId: number;
  /** The tokens that end a text, at least one. */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number;
  /** Frames with a temporal embedding; 0 for a model of single images. */
  readonly numImageWithEmbedding: number;
  readonly vision: VisionConfig;
}

/** An integer from 1 to `most`: bounds are checked before anything is allocated. */
const size = (most: number) => z.int().check(z.minimum(1), z.maximum(most));
const epsilon = z.number().check(z.gt(0), z.lte(1));
const activation = z.enum(ACTIVATIONS);

// Absent keys take the defaults of transformers 4.40's GitConfig and GitVisionConfig: save_pretrained writes only what differs.
const visionSchema = z.object({
  hidden_size: z._default(size(16_384), 768),
  intermediate_size: z._default(size(65_536), 3072),
  num_hidden_layers: z._default(size(256), 12),
  num_attention_heads: z._default(size(1024), 12),
  num_channels: z._default(z.literal(3), 3),
  image_size: z._default(size(4096), 224),
  patch_size: z._default(size(4096), 16),
  hidden_act: z._default(activation, 'quick_gelu'),
  layer_norm_eps: z._default(epsilon, 1e-5),
});

const schema = z.object({
  model_type: z.literal('git'),
  vocab_size: z._default(size(1_000_000), 30_522),
  hidden_size: z._default(size(16_384), 768),
  num_hidden_layers: z._default(size(256), 6),
  num_attention_heads: z._default(size(1024), 12),
  intermediate_size: z._default(size(65_536), 3072),
  hidden_act: z._default(activation, 'gelu'),
  layer_norm_eps: z._default(epsilon, 1e-12),
  tie_word_embeddings: z._default(z.boolean(), false),
  max_position_embeddings: z._default(size(65_536), 1024),
  position_embedding_type: z._default(z.literal('absolute'), 'absolute'),
  bos_token_id: z._default(z.int(), 101),
  /** One or several; a row ends at any of them. */
  eos_token_id: z.pipe(
    z.transform((value) => (typeof value === 'number' ? [value] : value)),
    z._default(z.array(z.int()).check(z.minLength(1)), [102]),
  ),
  pad_token_id: z._default(z.int(), 0),
  num_image_with_embedding: z._default(z.nullable(size(64)), null),
  /** null is what transformers writes for a config that was made without one. */
  vision_config: z.pipe(
    z.transform((value) => value ?? undefined),
    z._default(visionSchema, z.parse(visionSchema, {})),
  ),
});

/**
 * Reads a parsed config.json; unknown keys are ignored.
 *
 * @param json what the file holds.
 * @param file named in errors.
 * @throws ConfigError with the dotted path of the first key that breaks a rule.
 */
export function parseGitConfig(json: unknown, file = 'config.json'): GitConfig {
  const parsed = z.safeParse(schema, json);
  if (!parsed.success) throw schemaError(parsed.error.issues[0], json, file);
  const raw = parsed.data;
  const v = raw.vision_config;
  checkHeads(raw.hidden_size, raw.num_attention_heads, '', file);
  checkHeads(v.hidden_size, v.num_attention_heads, 'vision_config.', file);
  if (v.patch_size > v.image_size) {
    const detail = `${v.patch_size} is larger than image_size ${v.image_size}`;
    throw new ConfigError({ file, path: 'vision_config.patch_size', code: 'patch-larger-than-image', detail });
  }
  for (const [key, id] of [
    ['bos_token_id', raw.bos_token_id],
    ...raw.eos_token_id.map((id) => ['eos_token_id', id] as const),
    ['pad_token_id', raw.pad_token_id],
  ] as const) {
    if (id >= 0 && id < raw.vocab_size) continue;
    const detail = `${id} is outside the vocabulary of ${raw.vocab_size}`;
    throw new ConfigError({ file, path: key, code: 'token-outside-vocabulary', detail });
  }
  const grid = Math.floor(v.image_size / v.patch_size);
  return Object.freeze({
    vocabSize: raw.vocab_size,
    hiddenSize: raw.hidden_size,
    numHiddenLayers: raw.num_hidden_layers,
    numAttentionHeads: raw.num_attention_heads,
    intermediateSize: raw.intermediate_size,
    hiddenAct: raw.hidden_act,
    layerNormEps: raw.layer_norm_eps,
    tieWordEmbeddings: raw.tie_word_embeddings,
    maxPositionEmbeddings: raw.max_position_embeddings,
    bosTokenId: raw.bos_token_id,
    eosTokenIds: Object.freeze(raw.eos_token_id),
    padTokenId: raw.pad_token_id,
    numImageWithEmbedding: raw.num_image_with_embedding ?? 0,
    vision: Object.freeze({
      hiddenSize: v.hidden_size,
      intermediateSize: v.intermediate_size,
      numHiddenLayers: v.num_hidden_layers,
      numAttentionHeads: v.num_attention_heads,
      imageSize: v.image_size,
      patchSize: v.patch_size,
      hiddenAct: v.hidden_act,
      layerNormEps: v.layer_norm_eps,
      grid,
      imageTokens: 1 + grid * grid,
    }),
  });
}

function checkHeads(hidden: number, heads: number, prefix: string, file: string): void {
  if (hidden % heads === 0) return;
  const detail = `${heads} does not divide ${prefix}hidden_size ${hidden}`;
  throw new ConfigError({ file, path: `${prefix}num_attention_heads`, code: 'heads-not-divisor', detail });
}

/** What zod says about the first broken rule, with the value that was found. */
function schemaError(issue: z.core.$ZodIssue | undefined, json: unknown, file: string): ConfigError {
  const path = issue?.path.map(String) ?? [];
  const found = path.reduce<unknown>((node, key) => (node as Record<string, unknown> | undefined)?.[key], json);
  const shown =
    found === undefined ? 'nothing' : typeof found === 'string' ? quote(found) : JSON.stringify(found)?.slice(0, 60);
  return new ConfigError({
    file,
    path: path.length === 0 ? undefined : path.join('.'),
    code: path.length === 0 ? 'not-an-object' : `bad-${issue?.code ?? 'value'}`.replaceAll('_', '-'),
    detail: `${issue === undefined ? 'is wrong' : expectation(issue)}, found ${shown}`,
  });
}

function expectation(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type') return `expected ${issue.expected}`;
  if (issue.code === 'too_big') return `expected at most ${issue.maximum}`;
  if (issue.code === 'too_small')
    return `expected ${issue.inclusive === false ? 'more than' : 'at least'} ${issue.minimum}`;
  if (issue.code === 'invalid_value')
    return `expected ${issue.values.map((value) => quote(String(value))).join(' or ')}`;
  return issue.message;
}
