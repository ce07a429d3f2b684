import type { Tensor, Tensor4D } from '@tensorflow/tfjs-core';
import type { ModelFiles } from '../checkpoint/byte-source.js';
import { DisposedError, OptionError } from '../errors.js';
import type { Explanation } from '../explain/attention-map.js';
import { explainText } from '../explain/explanation.js';
import { generate } from '../generation/generate.js';
import type { GenerationConfig } from '../generation/generation-config.js';
import type { GeneratedSequence } from '../generation/session.js';
import type { ImageConfig } from '../image/image-config.js';
import type { ImageCache } from '../model/git.js';
import { disposeGit, type Git } from '../model/git.js';
import type { GitConfig } from '../model/git-config.js';
import type { LoraAdapter } from '../model/lora.js';
import { checkAdapter, mergeAdapter } from '../model/lora.js';
import type { OptionsFor } from '../options.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import type {
  Answer,
  AnswerOptions,
  Caption,
  CaptionOptions,
  CaptionStreamOptions,
  TextContext,
  WithoutImage,
} from './captions.js';
import {
  promptIds,
  questionIds,
  readWithoutImage,
  sessionOver,
  streamText,
  textIds,
  toAnswer,
  toCaption,
  vocabularyOf,
  withStreamer,
} from './captions.js';
import type { ModelInput } from './encoded-image.js';
import { encodeToKeep, holdImage, retainEncoded, withEncodedImages } from './encoded-image.js';
import type { InputLoader, InputOptions } from './input-loader.js';
import { createInputLoader, isImageBatch, readingAhead, withList } from './input-loader.js';
import { checkOne, checkTextOrTexts, checkTexts, type EncodedImage, sourceOf, type VisualInput } from './inputs.js';
import { type CheckedCall, checkCall, type Method, type methodOptions } from './method-options.js';
import { createWorkQueue, startLifetime } from './queue.js';
import type { ClassifyOptions, ClassScore, Embedding, EmbedOptions, ScoreTextsOptions, TextScore } from './scores.js';
import { embedInput, rankLabels, scoreTexts } from './scores.js';

/** Options of `explain`. */
export type ExplainOptions = Omit<CaptionOptions, keyof typeof methodOptions> &
  OptionsFor<typeof methodOptions, 'explain'>;

/** How a model opens its inputs and shares its work. */
export interface ModelOptions extends InputOptions {
  /** Most rows (images, questions), of one call or of several made at once, that are decoded together. Default 8. */
  readonly maxBatch?: number | undefined;
}

/** Options of `generate`: ids instead of text. */
export type GenerateSequencesOptions = Omit<CaptionOptions, keyof typeof methodOptions> &
  OptionsFor<typeof methodOptions, 'generate'>;

/**
 * A loaded model. Every method takes images and videos (`video(…)`, `frames([…])`), and may be called any number of times, also at once;
 * `dispose` frees it. A list of inputs or questions gives a list of results. Everything throws ImageError, OptionError, BackendError,
 * DisposedError, ConfigError for a video that a model of single images is given, or the signal's reason, and leaves no tensor behind then.
 */
export interface Image2Text {
  readonly git: Git;
  readonly config: GitConfig;
  readonly tokenizer: Tokenizer;
  readonly imageConfig: ImageConfig;
  /** What is odd about the files that it was loaded from, but harmless: tensors that it has no use for, an index that is not exact. */
  readonly warnings: readonly string[];
  /** What its generation_config.json says, where it has one. */
  readonly generationConfig: GenerationConfig | undefined;
  /** Says what is in an image or happens in a video. Without options it decodes as the original project does: 4 beams, length penalty 0.6. */
  caption(input: Exclude<VisualInput, Tensor>, options?: CaptionOptions): Promise<Caption>;
  caption(batch: Tensor4D, options: CaptionOptions & { readonly onError: 'collect' }): Promise<(Caption | Error)[]>;
  caption(batch: Tensor4D, options?: CaptionOptions): Promise<Caption[]>;
  caption(input: VisualInput, options?: CaptionOptions): Promise<Caption>;
  caption(
    inputs: readonly VisualInput[],
    options: CaptionOptions & { readonly onError: 'collect' },
  ): Promise<(Caption | Error)[]>;
  caption(inputs: readonly VisualInput[], options?: CaptionOptions): Promise<Caption[]>;
  /** Answers questions about one image or video, which is encoded once for all of them. Questions are cut as the original cuts them, to 38 tokens. */
  answer(input: VisualInput, question: string, options?: AnswerOptions): Promise<Answer>;
  answer(input: VisualInput, questions: readonly string[], options?: AnswerOptions): Promise<Answer[]>;
  /** Encodes an image or video and keeps that, for calls one after the other about the same. */
  encode(input: VisualInput, options?: OptionsFor<typeof methodOptions, 'encode'>): Promise<EncodedImage>;
  /** Which of the given names fits, best first. */
  classify(input: VisualInput, labels: readonly string[], options?: ClassifyOptions): Promise<ClassScore[]>;
  /** How likely the model finds each text as a caption, in the order given: for re-ranking and retrieval. */
  score(input: VisualInput, texts: readonly string[], options?: ScoreTextsOptions): Promise<TextScore[]>;
  /** What the vision tower makes of an image; of a video, of its frames with their temporal embeddings. */
  embed(input: VisualInput, options?: EmbedOptions): Promise<Embedding>;
  /** Where in the image the decoder's attention went for every word of its caption (or of `text`): `overlayPng` draws it, `renderPage` makes a page of it. */
  explain(input: VisualInput, options?: ExplainOptions): Promise<Explanation>;
  /** A caption or answer as it is written, greedy or sampled: `for await (const piece of model.stream(image))`. */
  stream(input: VisualInput, options?: CaptionStreamOptions): AsyncGenerator<string, void, void>;
  /** The sequences themselves: token ids, log-probabilities and scores, `[input][rank]`. */
  generate(
    inputs: VisualInput | readonly VisualInput[],
    options?: GenerateSequencesOptions,
  ): Promise<GeneratedSequence[][]>;
  /**
   * Changes what is said from the next call on: the weights with a LoRA adapter merged in, or, with `undefined`, the model's own. Nothing is
   * loaded again; calls in flight keep the weights that they started with. The caller keeps the adapter and may dispose of it afterwards. Images
   * that were encoded with other weights have to be encoded again.
   *
   * @throws OptionError (`wrong-type`, `adapter-does-not-fit`); DisposedError.
   */
  useAdapter(adapter: LoraAdapter | undefined): void;
  /** Frees the weights as soon as calls in flight have stopped, which they do at their next step with a DisposedError. */
  dispose(): void;
}

/** A model around parts that are loaded already. It owns the weights from here on. */
export function createImage2Text(
  git: Git,
  tokenizer: Tokenizer,
  imageConfig: ImageConfig,
  options: ModelOptions = {},
  warnings: readonly string[] = [],
  generationConfig?: GenerationConfig,
  files?: ModelFiles,
): Image2Text {
  const { maxBatch, ...inputs } = options;
  const model = switchAdapters(git, (git, free) =>
    createFixed(git, free, tokenizer, imageConfig, options, warnings, generationConfig),
  );
  parts.set(model, { loader: createInputLoader(git, imageConfig, inputs), generationConfig, files });
  return model;
}

/** What a model was made of that its interface does not show, for training. */
export interface ModelParts {
  readonly loader: InputLoader;
  readonly generationConfig: GenerationConfig | undefined;
  /** Where it was loaded from, if it was. */
  readonly files: ModelFiles | undefined;
}
const parts = new WeakMap<Image2Text, ModelParts>();

/** The parts of a model. @throws OptionError for what is no model of this library. */
export function partsOf(model: Image2Text): ModelParts {
  const found = parts.get(model);
  if (found !== undefined) return found;
  throw new OptionError({ path: 'model', code: 'wrong-type', detail: 'expected a model that loadImage2Text made' });
}

/** A model whose weights stay. `free` is called when it is disposed of and no call is left. */
function createFixed(
  git: Git,
  free: () => void,
  tokenizer: Tokenizer,
  imageConfig: ImageConfig,
  { maxBatch = 8, ...options }: ModelOptions,
  warnings: readonly string[],
  generationConfig: GenerationConfig | undefined,
): FixedModel {
  const encoded = new Set<EncodedImage>();
  const lifetime = startLifetime(() => {
    for (const image of encoded) image.dispose();
    free();
  });
  const context: TextContext = { git, tokenizer, generationConfig };
  const callContext = { tokenizer, vocabulary: vocabularyOf(context), generationConfig };
  const check = <Taker extends Method>(method: Taker, given: unknown): CheckedCall<Taker> =>
    checkCall(method, given, callContext);
  const loader = createInputLoader(git, imageConfig, options);

  const queue = createWorkQueue(context, maxBatch);

  /** Texts for inputs with the prompts of each, `[prompt][rank]` for every input. */
  async function writeEach(
    inputs: readonly VisualInput[],
    promptsOf: (input: number) => readonly (readonly number[])[],
    { own: { streamer, batchSize, trace, signal }, generation }: WritingCall,
    onError: 'throw' | 'collect',
  ): Promise<(GeneratedSequence[][] | Error)[]> {
    const given = withStreamer(generation, streamer, inputs.length === 0 ? undefined : promptsOf(0)[0]);
    return lifetime.during(signal, async (signal) => {
      const { ready, release } = retainEncoded(inputs, git);
      try {
        const fetched = await loader.fetchRemote(inputs, signal); // nobody waits in the queue for the network
        const open = async (n: number, signal: AbortSignal) => {
          const input = fetched[n]!;
          if (input instanceof Error) throw input;
          return ready[n] ?? loader.load(input, signal);
        };
        const request = {
          inputs: inputs.length,
          ...(loader.readsAhead ? readingAhead(inputs.length, open, signal) : { load: open }),
          promptsOf,
          generation: given,
          batchSize,
          trace,
          onError,
          signal,
        };
        // A call that waits for its listener must not keep others waiting, nor wait for one that the listener makes.
        return await ('onToken' in given ? createWorkQueue(context, maxBatch) : queue).write(request);
      } finally {
        release();
      }
    });
  }

  /** The same where the first error ends the call. */
  const write = async (
    inputs: readonly VisualInput[],
    promptsOf: (input: number) => readonly (readonly number[])[],
    call: WritingCall,
  ) => (await writeEach(inputs, promptsOf, call, 'throw')) as GeneratedSequence[][][];

  /** What the texts would be without the image, where the call asks for that. */
  async function withoutImage(
    written: readonly (GeneratedSequence[][] | Error)[],
    { evidence, batchSize, signal: given }: Pick<CheckedCall<'answer'>['own'], 'evidence' | 'batchSize' | 'signal'>,
  ): Promise<WithoutImage | undefined> {
    if (!evidence) return undefined;
    const sequences = written.flatMap((found) => (found instanceof Error ? [] : found.flat()));
    return lifetime.during(given, (signal) =>
      queue.run(signal, () => readWithoutImage(context, sequences, { signal, batchSize: batchSize ?? maxBatch })),
    );
  }

  /** Opens an input and runs `body` on it when its turn comes. */
  function inTurn<T>(
    input: VisualInput,
    given: AbortSignal | undefined,
    body: (loaded: ModelInput, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return lifetime.during(given, async (signal) => {
      const { ready, release } = retainEncoded([input], git);
      try {
        const loaded = ready[0] ?? (await loader.load(input, signal));
        return await queue.run(signal, () => body(loaded, signal));
      } finally {
        release();
      }
    });
  }

  /** Answers to several questions about one input. */
  async function answerAll(
    input: VisualInput,
    questions: readonly string[],
    call: CheckedCall<'answer'>,
  ): Promise<Answer[]> {
    const prompts = questions.map((question) => questionIds(tokenizer, question));
    const written = await write([input], () => prompts, call);
    const without = await withoutImage(written, call.own);
    return written[0]!.map((ranked, n) => toAnswer(tokenizer, questions[n]!, ranked, without));
  }

  /** The best text over an image. */
  async function writeOver(
    image: ImageCache,
    prompt: readonly number[],
    generation: CheckedCall<'explain'>['generation'],
    signal: AbortSignal,
  ): Promise<GeneratedSequence> {
    const open = sessionOver(git, image, [0]);
    return (await generate(open, callContext.vocabulary, { ...generation, signal }, [prompt]))[0]![0]!;
  }

  /** Runs `body` over the cache of one input. */
  function withEncodedImage<T>(
    input: VisualInput,
    { signal, trace }: OptionsFor<typeof methodOptions, 'encode'>,
    body: (image: ImageCache, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return inTurn(input, signal, (loaded, signal) =>
      withEncodedImages(git, [loaded], { signal, trace }, (image) => body(image, signal)),
    );
  }

  return {
    git,
    config: git.config,
    tokenizer,
    imageConfig,
    warnings,
    generationConfig,
    caption: (async (inputs: VisualInput | readonly VisualInput[], options?: CaptionOptions) => {
      const call = check('caption', options);
      const prompt = promptIds(tokenizer, call.own.prompt);
      const written = await withList(inputs, (many) => writeEach(many, () => [prompt], call, call.own.onError));
      const without = await withoutImage(written, call.own);
      const captions = written.map((found) =>
        found instanceof Error ? found : toCaption(tokenizer, found[0]!, without),
      );
      return Array.isArray(inputs) || isImageBatch(inputs) ? captions : captions[0]!;
    }) as Image2Text['caption'],
    answer: (async (input: VisualInput, questions: string | readonly string[], options?: AnswerOptions) => {
      checkOne('image', input);
      const answers = await answerAll(input, checkTextOrTexts('question', questions), check('answer', options));
      return Array.isArray(questions) ? answers : answers[0]!;
    }) as Image2Text['answer'],
    async encode(input, options) {
      checkOne('image', input);
      const { trace, signal: given } = check('encode', options).own;
      return inTurn(input, given, async (loaded, signal) => {
        const kept = await encodeToKeep(git, loaded, { signal, trace });
        const image = holdImage(git, input, loaded, kept, () => encoded.delete(image));
        encoded.add(image);
        return image;
      });
    },
    async classify(input, labels, options) {
      checkOne('image', input);
      const names = checkTexts('labels', labels);
      const given = check('classify', options).own;
      return withEncodedImage(input, given, (image, signal) => rankLabels(context, image, names, { ...given, signal }));
    },
    async score(input, texts, options) {
      checkOne('image', input);
      const listed = checkTexts('texts', texts);
      const given = check('score', options).own;
      return withEncodedImage(input, given, (image, signal) =>
        scoreTexts(context, image, listed, { ...given, signal }),
      );
    },
    async embed(input, options) {
      checkOne('image', input);
      const given = check('embed', options).own;
      return inTurn(input, given.signal, (loaded, signal) => embedInput(context, loaded, { ...given, signal }));
    },
    async explain(input, options) {
      checkOne('image', input);
      const { own, generation } = check('explain', options);
      const { text, rollout, ...given } = own;
      const prompt = promptIds(tokenizer, given.prompt);
      return lifetime.during(given.signal, async (signal) => {
        const { ready, release } = retainEncoded([input], git);
        try {
          const images = await loader.open(sourceOf(input), signal);
          const loaded = ready[0] ?? (await loader.prepareInSlices(images, signal));
          const about = async (image?: ImageCache): Promise<Explanation> => {
            const ids =
              text === undefined
                ? (await writeOver(image!, prompt, generation, signal)).ids
                : [...prompt, ...textIds(tokenizer, text), callContext.vocabulary.eosIds[0]!];
            const said = text ?? tokenizer.decode(ids.slice(prompt.length), { skipSpecialTokens: true });
            const facts = { images, imageConfig, preprocess: loader.preprocessing, ids, promptLength: prompt.length };
            const asked = { ...facts, prompt: given.prompt, text: said };
            return explainText(git, tokenizer, asked, { signal, rollout, image });
          };
          if (text !== undefined && rollout) return await about(); // encodes it, watched
          return await withEncodedImages(git, [loaded], { signal }, about);
        } finally {
          release();
        }
      });
    },
    async *stream(input, options) {
      checkOne('image', input);
      const call = check('stream', options);
      yield* lifetime.streaming(call.own.signal, async function* (signal) {
        yield* streamText(context, await loader.load(input, signal), call, signal);
      });
    },
    async generate(inputs, options) {
      const call = check('generate', options);
      const { inputIds = [tokenizer.clsId] } = call.own;
      const written = await withList(inputs, async (many) => {
        const prompts = promptsFor(inputIds, many.length);
        return write(many, (n) => [prompts[n]!], call);
      });
      return written.map(([ranked]) => ranked!);
    },
    dispose: () => lifetime.end(),
  };
}

/** A checked call of a method that writes. */
type WritingCall = Pick<CheckedCall<'caption'>, 'generation'> & {
  readonly own: Pick<CheckedCall<'caption'>['own'], 'streamer' | 'batchSize' | 'trace' | 'signal'>;
};

/** One list of ids for each input. */
function promptsFor(
  ids: readonly number[] | readonly (readonly number[])[],
  inputs: number,
): readonly (readonly number[])[] {
  if (!Array.isArray(ids[0])) return Array.from({ length: inputs }, () => ids as readonly number[]);
  if (ids.length === inputs) return ids as readonly (readonly number[])[];
  throw new OptionError({
    path: 'inputIds',
    code: 'row-count',
    detail: `${ids.length} lists of ids for ${inputs} images`,
  });
}

/** A model whose weights stay as they are. */
type FixedModel = Omit<Image2Text, 'useAdapter'>;

/** A model over its own weights or over those with an adapter, whichever is in use; it owns `base` from here on. */
function switchAdapters(base: Git, make: (git: Git, free: () => void) => FixedModel): Image2Text {
  let unfreed = 0;
  const start = (git: Git, freeOwn: () => void): InUse => {
    unfreed++;
    const free = (): void => {
      freeOwn();
      if (--unfreed === 0) disposeGit(base); // the base's weights are in all of them
    };
    return { model: make(git, free), calls: 0 };
  };
  const own = start(base, () => {});
  const all = new Set([own]);
  let now = own;
  let ended = false;
  const freeIdle = (): void => {
    for (const one of all) {
      if (one === own || one === now || one.calls > 0) continue;
      all.delete(one);
      one.model.dispose();
    }
  };
  const during = async <T>(body: (model: FixedModel) => Promise<T>): Promise<T> => {
    const used = now;
    used.calls++;
    try {
      return await body(used.model);
    } finally {
      used.calls--;
      freeIdle();
    }
  };
  return {
    get git() {
      return now.model.git;
    },
    config: base.config,
    tokenizer: own.model.tokenizer,
    imageConfig: own.model.imageConfig,
    warnings: own.model.warnings,
    generationConfig: own.model.generationConfig,
    caption: ((...given: Parameters<Image2Text['caption']>) =>
      during((model): Promise<unknown> => model.caption(...given))) as Image2Text['caption'],
    answer: ((...given: Parameters<Image2Text['answer']>) =>
      during((model): Promise<unknown> => model.answer(...given))) as Image2Text['answer'],
    encode: (...given) => during((model) => model.encode(...given)),
    classify: (...given) => during((model) => model.classify(...given)),
    score: (...given) => during((model) => model.score(...given)),
    embed: (...given) => during((model) => model.embed(...given)),
    explain: (...given) => during((model) => model.explain(...given)),
    generate: (...given) => during((model) => model.generate(...given)),
    async *stream(...given) {
      const used = now;
      used.calls++;
      try {
        yield* used.model.stream(...given);
      } finally {
        used.calls--;
        freeIdle();
      }
    },
    useAdapter(adapter) {
      if (ended) throw new DisposedError({ code: 'model-disposed', detail: 'this model was disposed' });
      if (adapter === undefined) now = own;
      else {
        checkAdapter(base, adapter);
        const { git, dispose } = mergeAdapter(base, adapter);
        now = start(git, dispose);
        all.add(now);
      }
      freeIdle();
    },
    dispose() {
      ended = true;
      for (const { model } of all) model.dispose();
    },
  };
}

interface InUse {
  readonly model: FixedModel;
  calls: number;
}
