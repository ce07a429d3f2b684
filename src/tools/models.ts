import { readFileSync } from 'node:fs';
import * as z from 'zod/mini';
import { readJson } from '../checkpoint/json.js';
import { ConfigError } from '../errors.js';
import { PREPROCESSINGS, type PreprocessOptions } from '../image/image-options.js';
import { type Evaluation, METRICS, type Metric } from '../metrics/index.js';

/** A checkpoint that Microsoft published. */
export interface PublishedModel {
  /** Its name on the Hub. */
  readonly id: string;
  readonly task: 'caption' | 'question' | 'video-caption' | 'video-question';
  readonly about: string;
  readonly size: 'base' | 'large';
  /** Side of the image as the model sees it, and of a patch, pixels. */
  readonly imageSize: number;
  readonly patchSize: number;
  /** Frames of a video; 0 for a model of single images. */
  readonly frames: number;
  readonly parameters: number;
  /** Of the published weights, which are float32. */
  readonly bytes: number;
  readonly license: string;
  /** The published result, where a source gives one. */
  readonly score?: {
    readonly metric: string;
    readonly value: number;
    readonly dataset: string;
    /** Which of the sources of weights/models.json. */
    readonly source: string;
    /** How it was measured: a metric of `evaluatePairs`, and which of its scores. Absent where no source says enough. */
    readonly evaluation?: { readonly metric: Metric; readonly score: string };
  };
  /** How the original made model inputs of images for that figure. Absent where no source says. */
  readonly preprocessing?: PreprocessOptions & { readonly source: string };
}

/** How the original decoded for every published figure. */
export interface PublishedDecoding {
  readonly strategy: 'original';
  readonly numBeams: number;
  readonly lengthPenalty: number;
  readonly maxLength: number;
  /** Which of the sources of weights/models.json. */
  readonly source: string;
}

/** Published checkpoints, how they were decoded, and where that is said. */
export interface PublishedModels {
  readonly models: readonly PublishedModel[];
  readonly decoding: PublishedDecoding;
  readonly sources: Readonly<Record<string, string>>;
}

/** The 17 published GIT checkpoints, as weights/models.json lists them with its sources. */
export const listModels = (): readonly PublishedModel[] => readPublishedModels().models;

/** What weights/models.json, or another file of its layout, says. @throws ConfigError naming what is wrong in it */
export function readPublishedModels(file?: string): PublishedModels {
  const json = file === undefined ? readWeightsFile('models.json') : readJson(readFileSync(file), file);
  const parsed = z.safeParse(schema, json);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const path = issue?.path.join('.');
    throw new ConfigError({ file: file ?? 'models.json', path, code: 'layout', detail: issue?.message ?? 'is wrong' });
  }
  const { decoding, sources, models } = parsed.data as unknown as Omit<PublishedModels, 'models'> & {
    models: readonly Omit<PublishedModel, 'bytes'>[];
  };
  return { decoding, sources, models: models.map((model) => ({ ...model, bytes: 4 * model.parameters })) };
}

const count = z.int().check(z.positive());
const side = z.int().check(z.positive());
const schema = z.looseObject({
  decoding: z.looseObject({
    strategy: z.literal('original'),
    numBeams: count,
    lengthPenalty: z.number(),
    maxLength: count,
    source: z.string(),
  }),
  sources: z.record(z.string(), z.string()),
  models: z.array(
    z.looseObject({
      id: z.string(),
      task: z.enum(['caption', 'question', 'video-caption', 'video-question']),
      parameters: count,
      score: z.optional(
        z.looseObject({
          metric: z.string(),
          value: z.number(),
          dataset: z.string(),
          source: z.string(),
          evaluation: z.optional(z.object({ metric: z.enum(METRICS as [Metric, ...Metric[]]), score: z.string() })),
        }),
      ),
      preprocessing: z.optional(
        z.object({
          preprocessing: z.enum(PREPROCESSINGS),
          keepRatio: z.optional(z.object({ min: side, max: side })),
          source: z.string(),
        }),
      ),
    }),
  ),
});

/** A score beside the published one. */
export interface PublishedComparison {
  readonly score: string;
  readonly value: number;
  readonly published: number;
  /** `value` less `published`. */
  readonly difference: number;
  /** Images or questions that `value` is of. */
  readonly count: number;
  /** What the published figure is of. */
  readonly dataset: string;
}

/** How far an evaluation is from the published figure; undefined where none is known to be measured that way. */
export function compareWithPublished(
  { score }: PublishedModel,
  { metric, scores, count }: Evaluation,
): PublishedComparison | undefined {
  const measured = score?.evaluation;
  if (score === undefined || measured?.metric !== metric) return undefined;
  const value = scores[measured.score];
  if (value === undefined) return undefined;
  const { value: published, dataset } = score;
  return { score: measured.score, value, published, difference: value - published, count, dataset };
}

/** Numbers that were published with a checkpoint: logits of the first word for one image. */
export interface PublishedLogits {
  readonly checkpoint: string;
  readonly input_ids: readonly (readonly number[])[];
  /** In words. */
  readonly picture: string;
  readonly expected: readonly number[];
  readonly atol: number;
  readonly config: { readonly image_size: number; readonly num_image_with_embedding: number | null };
  /** In words. */
  readonly preprocessing: string;
}

/** What weights/published-logits.json holds: a slice of logits for each published checkpoint. */
export function listPublishedLogits(): readonly PublishedLogits[] {
  return (readWeightsFile('published-logits.json') as { published_logits: PublishedLogits[] }).published_logits;
}

const readWeightsFile = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../weights/${name}`, import.meta.url), 'utf8'));
