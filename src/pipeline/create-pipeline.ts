import { DisposedError, OptionError, quote } from '../errors.js';
import type { Image2Text } from '../image2text/image2text.js';
import type { OnLoadEvent } from '../load-events.js';
import { imageClassification, readLabels } from './label-task.js';
import { checkSignal, contradiction, type Given, readOptions, withoutNulls, wrongType } from './option-names.js';
import { visualQuestionAnswering } from './question-task.js';
import { imageToText, type Task, videoToText } from './text-tasks.js';
import type { CreatePipeline, ModelLoadOptions, Pipelines, PipelineTask } from './types.js';

/** Loads a model for a pipeline. */
export type ModelLoader<M> = (model: M, options: ModelLoadOptions) => Promise<Image2Text>;

/** Tasks by name; `labels`: the names that image-classification chooses from by default. */
const TASKS: Readonly<Record<PipelineTask, (labels: readonly string[] | undefined) => Task>> = {
  'image-to-text': () => imageToText,
  'visual-question-answering': () => visualQuestionAnswering,
  vqa: () => visualQuestionAnswering,
  'video-to-text': () => videoToText,
  'image-classification': imageClassification,
};

const OURS = ['progressCallback', 'dtype', 'candidateLabels'];
/** What the loader is given. */
const LOADERS = (
  'device revision cacheDir localFilesOnly signal backend onProgress upload uploadCopies weights openImage openVideo webpWasm avifWasm preprocessing keepRatio ' +
  'orientation maxPixels'
).split(' ');

/**
 * `pipeline(task, model, options)` as transformers.js has it, for a door that loads models its own way. A model that is loaded already may
 * be given instead; it stays the caller's.
 *
 * @throws OptionError for unknown tasks and options, contradictory ones, and those of loading where the model is loaded; what loading throws.
 */
export const createPipeline =
  <M>(load: ModelLoader<M>): CreatePipeline<M> =>
  async (task, model, options) => {
    if (!Object.hasOwn(TASKS, task)) {
      const detail = `there is no task ${quote(String(task))}; known are ${Object.keys(TASKS).join(', ')}`;
      throw new OptionError({ path: 'task', code: 'unknown-task', detail });
    }
    const given = withoutNulls(readOptions(options, [...OURS, ...LOADERS], 'pipeline'));
    const { tell, labels, loading } = readPipelineOptions(task, given);
    if (isLoaded(model)) {
      refuseLoading(given);
      tell?.({ status: 'ready', task, model: 'loaded model' });
      return assemble(task, model, TASKS[task](labels), false);
    }
    const loaded = await load(model, {
      ...loading,
      onProgress: tell && ((event) => event.status === 'ready' || tell(event)),
    });
    try {
      tell?.({ status: 'ready', task, model: labelOf(model) });
    } catch (error) {
      loaded.dispose();
      throw error;
    }
    return assemble(task, loaded, TASKS[task](labels), true);
  };

function readPipelineOptions(task: PipelineTask, given: Given) {
  const { progressCallback, onProgress, dtype, candidateLabels, ...loading } = given;
  const tell = progressCallback ?? onProgress;
  if (tell !== undefined && typeof tell !== 'function') wrongType('progress_callback', 'a function', tell);
  if (dtype !== undefined && dtype !== 'fp32' && dtype !== 'auto')
    wrongType('dtype', 'fp32 or auto, for all is computed in float32', dtype);
  if (candidateLabels !== undefined && task !== 'image-classification')
    contradiction('candidate_labels', `the task ${task} has no use for them`);
  for (const [name, other] of SYNONYMS)
    if (name in given && other in given) contradiction(name, `${name} and ${other} say the same: give one of them`);
  checkSignal(loading);
  for (const name of ['device', 'revision', 'cacheDir'])
    if (loading[name] !== undefined && typeof loading[name] !== 'string') wrongType(name, 'a text', loading[name]);
  return {
    tell: tell as OnLoadEvent | undefined,
    labels: candidateLabels === undefined ? undefined : readLabels(candidateLabels),
    loading: loading as ModelLoadOptions,
  };
}

const SYNONYMS = [
  ['device', 'backend'],
  ['progressCallback', 'onProgress'],
] as const;

const isLoaded = (model: unknown): model is Image2Text =>
  typeof model === 'object' && model !== null && 'git' in model && 'caption' in model;

const labelOf = (model: unknown): string => {
  if (typeof model === 'string') return model;
  return typeof model === 'object' && model !== null && 'label' in model ? String(model.label) : 'model';
};

function refuseLoading(given: Given): void {
  for (const name of LOADERS)
    if (name in given && name !== 'onProgress')
      contradiction(name, 'the model is loaded already; this option is of loading');
}

/** The function that transformers.js's users know, with its properties. */
function assemble<T extends PipelineTask>(name: T, model: Image2Text, task: Task, own: boolean): Pipelines[T] {
  let disposed = false;
  const call = async (...inputs: readonly unknown[]): Promise<unknown> => {
    if (disposed) throw new DisposedError({ code: 'pipeline-disposed', detail: 'this pipeline was disposed' });
    return task(model, inputs);
  };
  const properties = {
    task: name === 'vqa' ? 'visual-question-answering' : name,
    model,
    tokenizer: model.tokenizer,
    async dispose(): Promise<void> {
      disposed = true;
      if (own) model.dispose();
    },
  };
  return Object.assign(call, properties) as unknown as Pipelines[T];
}
