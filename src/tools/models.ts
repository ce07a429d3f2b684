import { readFileSync } from 'node:fs';

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
  readonly licence: string;
  /** The published result, where a source gives one. */
  readonly score?: {
    readonly metric: string;
    readonly value: number;
    readonly dataset: string;
    /** Which of the sources of weights/models.json. */
    readonly source: string;
  };
}

/** The 17 published GIT checkpoints, as weights/models.json lists them with its sources. */
export function listModels(): readonly PublishedModel[] {
  const { models } = readWeightsFile('models.json') as { models: Omit<PublishedModel, 'bytes'>[] };
  return models.map((model) => ({ ...model, bytes: 4 * model.parameters }));
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
