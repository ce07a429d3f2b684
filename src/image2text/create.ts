import { OptionError } from '../errors.js';
import type { Explanation } from '../explain/index.js';
import { explainText } from '../explain/index.js';
import type { ImageConfig } from '../image/image-config.js';
import type { RawImage } from '../image/raw-image.js';
import type { Git } from '../model/git.js';
import { disposeGit } from '../model/git.js';
import type { ImageCache } from '../model/kv-cache.js';
import type { Trace } from '../model/trace.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { checkOne, checkOptions, checkTextOrTexts, checkTexts } from './arguments.js';
import { promptIds, questionIds, splitOptions, toAnswer, toCaption, type Writer, writeSequences } from './captions.js';
import type { ModelInput } from './encode.js';
import { encodeOne, withImageCache } from './encode.js';
import type { SightOptions } from './eyes.js';
import { openEyes } from './eyes.js';
import type { Image2Text } from './image2text.js';
import type { ImageInput } from './images.js';
import { startLifetime } from './lifetime.js';
import { embedPixels, rankLabels, scoreTexts } from './scores.js';
import type { EncodedImage } from './seen.js';
import { holdImage } from './seen.js';
import { streamText } from './streams.js';
import type { Answer, AnswerOptions, Caption, CaptionOptions, ExplainOptions } from './types.js';
import type { Video } from './videos.js';

/** The hall where the rooms meet, around parts that are loaded already. It owns the weights from here on. */
export function createImage2Text(
  git: Git,
  tokenizer: Tokenizer,
  imageConfig: ImageConfig,
  sight: SightOptions = {},
): Image2Text {
  const looks = new Set<EncodedImage>();
  const lifetime = startLifetime(() => {
    for (const seen of looks) seen.dispose();
    disposeGit(git);
  });
  const writer: Writer = { git, tokenizer };
  const eyes = openEyes(git, imageConfig, sight);

  /** Texts for one prompt over several images or videos. */
  async function write<P>(
    items: readonly P[],
    see: See<P>,
    prompt: readonly number[],
    given: CaptionOptions,
  ): Promise<Caption[]> {
    const { generation, scope } = splitOptions(given, prompt);
    return lifetime.during(given.signal, async (signal) => {
      const tasks = [];
      for (const item of items) tasks.push({ ...(await see(item, signal)), prompts: [prompt] });
      const written = await writeSequences(writer, tasks, generation, { ...scope, signal });
      return written.map(([ranked]) => toCaption(tokenizer, ranked!));
    });
  }

  /** Texts for several questions over one image or video. */
  async function reply<P>(item: P, see: See<P>, questions: readonly string[], given: AnswerOptions): Promise<Answer[]> {
    const prompts = questions.map((question) => questionIds(tokenizer, question));
    const { generation, scope } = splitOptions(given, prompts[0]);
    return lifetime.during(given.signal, async (signal) => {
      const task = { ...(await see(item, signal)), prompts };
      const [written] = await writeSequences(writer, [task], generation, { ...scope, signal });
      return written!.map((ranked, n) => toAnswer(tokenizer, questions[n]!, ranked));
    });
  }

  /** Runs `body` over the cache of one image. */
  function over<T>(
    image: ImageInput,
    options: { readonly signal?: AbortSignal; readonly trace?: Trace },
    body: (image: ImageCache, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return lifetime.during(options.signal, async (signal) => {
      const input = await eyes.look(image, signal);
      return withImageCache(git, [input], { signal, trace: options.trace }, (image) => body(image, signal));
    });
  }

  /** Writes a text about an image or video, or takes the given one, and says where the model looked for each word. */
  async function see<P>(
    item: P,
    open: (item: P, signal: AbortSignal) => Promise<RawImage[]>,
    video: boolean,
    { text, ...given }: ExplainOptions,
  ): Promise<Explanation> {
    const prompt = promptIds(tokenizer, given.prompt);
    const { generation, scope } = splitOptions(given, prompt);
    return lifetime.during(given.signal, async (signal) => {
      const images = await open(item, signal);
      const input = { ...eyes.toInput(images, video), prompts: [prompt] };
      const ids =
        text === undefined
          ? (await writeSequences(writer, [input], generation, { ...scope, signal }))[0]![0]![0]!.ids
          : [...prompt, ...tokenizer.encode(text, { addSpecialTokens: false }), git.config.eosTokenId];
      const said = text ?? tokenizer.decode(ids.slice(prompt.length), { skipSpecialTokens: true });
      const about = { images, video, imageConfig, preprocess: eyes.preprocess, ids, promptLength: prompt.length };
      return explainText(git, tokenizer, { ...about, prompt: given.prompt, text: said }, { signal });
    });
  }

  const oneOrMany = <P, R>(items: P | readonly P[], results: Promise<R[]>): Promise<R | R[]> =>
    Array.isArray(items) ? results : results.then(([first]) => first!);

  return {
    git,
    config: git.config,
    tokenizer,
    imageConfig,
    caption: (async (images: ImageInput | readonly ImageInput[], options?: CaptionOptions) => {
      const given = checkOptions(options);
      return oneOrMany(images, write(asList(images), eyes.look, promptIds(tokenizer, given.prompt), given));
    }) as Image2Text['caption'],
    captionVideo: (async (videos: Video | readonly Video[], options?: CaptionOptions) => {
      const given = checkOptions(options);
      return oneOrMany(videos, write(asList(videos), eyes.watch, promptIds(tokenizer, given.prompt), given));
    }) as Image2Text['captionVideo'],
    answer: (async (image: ImageInput, questions: string | readonly string[], options?: AnswerOptions) => {
      checkOne('image', image);
      const asked = checkTextOrTexts('question', questions);
      return oneOrMany(questions, reply(image, eyes.look, asked, checkOptions(options)));
    }) as Image2Text['answer'],
    answerVideo: (async (video: Video, questions: string | readonly string[], options?: AnswerOptions) => {
      checkOne('video', video);
      const asked = checkTextOrTexts('question', questions);
      return oneOrMany(questions, reply(video, eyes.watch, asked, checkOptions(options)));
    }) as Image2Text['answerVideo'],
    async look(image, options) {
      checkOne('image', image);
      const { trace, signal: given } = checkOptions(options, ['signal', 'trace']);
      return lifetime.during(given, async (signal) => {
        const input = await eyes.look(image, signal);
        const seen = holdImage(git, image, input, encodeOne(git, input, trace), () => looks.delete(seen));
        looks.add(seen);
        return seen;
      });
    },
    async classify(image, labels, options) {
      checkOne('image', image);
      const names = checkTexts('labels', labels);
      const given = checkOptions(options, ['topK', 'method', 'prompt', 'batchSize', 'trace', 'signal']);
      return over(image, given, (image, signal) => rankLabels(writer, image, names, { ...given, signal }));
    },
    async score(image, texts, options) {
      checkOne('image', image);
      const listed = checkTexts('texts', texts);
      const given = checkOptions(options, ['prompt', 'batchSize', 'trace', 'signal']);
      return over(image, given, (image, signal) => scoreTexts(writer, image, listed, { ...given, signal }));
    },
    async embed(image, options) {
      checkOne('image', image);
      const given = checkOptions(options, ['stage', 'pool', 'signal']);
      return lifetime.during(given.signal, async (signal) => {
        const { pixels } = await eyes.look(image, signal);
        return embedPixels(writer, pixels, given);
      });
    },
    async explain(image, options) {
      checkOne('image', image);
      return see(image, eyes.openImage, false, checkOptions(options));
    },
    async explainVideo(video, options) {
      checkOne('video', video);
      return see(video, eyes.openVideo, true, checkOptions(options));
    },
    async *stream(image, options) {
      checkOne('image', image);
      const given = checkOptions(options);
      yield* lifetime.streaming(given.signal, async function* (signal) {
        const input = await eyes.look(image, signal);
        yield* streamText(writer, input, { ...given, signal });
      });
    },
    async generate(images, options) {
      const { inputIds = [tokenizer.clsId], ...rest } = checkOptions(options);
      const many = asList(images);
      const prompts = promptsFor(inputIds, many.length);
      const { generation, scope } = splitOptions(rest as CaptionOptions, prompts[0]);
      return lifetime.during(rest.signal, async (signal) => {
        const tasks = [];
        for (const [n, image] of many.entries())
          tasks.push({ ...(await eyes.look(image, signal)), prompts: [prompts[n]!] });
        const written = await writeSequences(writer, tasks, generation, { ...scope, signal });
        return written.map(([ranked]) => ranked!);
      });
    },
    dispose: () => lifetime.end(),
  };
}

type See<P> = (item: P, signal: AbortSignal) => Promise<ModelInput>;

const asList = <P>(items: P | readonly P[]): readonly P[] =>
  Array.isArray(items) ? (items as readonly P[]) : [items as P];

/** One list of ids for each image. */
function promptsFor(
  ids: readonly number[] | readonly (readonly number[])[],
  images: number,
): readonly (readonly number[])[] {
  if (!Array.isArray(ids[0])) return Array.from({ length: images }, () => ids as readonly number[]);
  if (ids.length === images) return ids as readonly (readonly number[])[];
  throw new OptionError({
    path: 'inputIds',
    code: 'row-count',
    detail: `${ids.length} lists of ids for ${images} images`,
  });
}
