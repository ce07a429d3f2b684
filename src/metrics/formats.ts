import * as z from 'zod/mini';
import { MetricError, quote } from '../errors.js';
import { type FileContent, JSON_LIMIT, LINE_LIMIT, openTextFile, type TextFile, type TextLine } from './text-file.js';

/** What a model said of one image or question. */
export interface Prediction {
  /** Image id, question id or file name, as the file has it. */
  readonly id: string;
  readonly text: string;
}

/** What people said of one image or question. */
export interface Reference {
  readonly id: string;
  /** The image's file name, where the file has it. */
  readonly file?: string | undefined;
  /** The image's id, where items are questions. */
  readonly imageId?: string | undefined;
  readonly texts: readonly string[];
  readonly question?: string | undefined;
  readonly questionType?: string | undefined;
  readonly answerType?: string | undefined;
}

/** References, and what they are of. */
export interface References {
  readonly task: 'caption' | 'question';
  /** How the field scores files of this kind. */
  readonly metric: 'captions' | 'vqa' | 'textvqa' | 'exact';
  readonly items: readonly Reference[];
}

const id = z.union([z.string(), z.number()]);
const texts = z.array(z.string());

const predictionRow = z.union([
  z.object({ image_id: id, caption: z.string() }), // coco results
  z.object({ question_id: id, answer: z.string() }), // VQAv2 results, and the original's answers
  z.object({ question_id: id, text: z.string() }), // our answers
  z.object({ file: z.string(), text: z.string() }), // our captions
]);

/**
 * Reads predictions: results of COCO or VQAv2 (a JSON array), our JSONL, or the original's TSV (`key`, then
 * `[{"caption": …}]`; for answers a line of JSON). Files of lines are read a line at a time.
 *
 * @throws MetricError with the line or the path of what is wrong
 */
export async function readPredictions(content: FileContent, file: string): Promise<Prediction[]> {
  const source = openTextFile(content, file);
  const first = await firstLine(source);
  if (first.text.trimStart().startsWith('[')) {
    const json = parseJson(`${first.text}\n${await source.rest(JSON_LIMIT)}`, file);
    return checked(z.array(predictionRow), json, file).map(predictionOf);
  }
  const predictions: Prediction[] = [];
  for await (const { text, number } of linesFrom(first, source)) {
    const path = `line ${number}`;
    const tab = text.startsWith('{') ? -1 : text.indexOf('\t');
    if (tab < 0) {
      predictions.push(predictionOf(checked(predictionRow, parseJson(text, file, path), file, path)));
      continue;
    }
    const captions = z.array(z.object({ caption: z.string() }));
    const said = checked(captions, parseJson(text.slice(tab + 1), file, path), file, path);
    if (said.length === 0) throw new MetricError({ file, path, code: 'missing-field', detail: 'there is no caption' });
    predictions.push({ id: text.slice(0, tab), text: said[0]!.caption });
  }
  return predictions;
}

function predictionOf(row: z.infer<typeof predictionRow>): Prediction {
  const text = 'caption' in row ? row.caption : 'answer' in row ? row.answer : row.text;
  return { id: String('image_id' in row ? row.image_id : 'question_id' in row ? row.question_id : row.file), text };
}

const cocoSchema = z.object({
  images: z._default(z.array(z.object({ id, file_name: z.optional(z.string()) })), []),
  annotations: z.array(z.object({ image_id: id, caption: z.string() })),
});
const vqaSchema = z.object({
  annotations: z.array(
    z.object({
      question_id: id,
      image_id: z.optional(id),
      question_type: z.optional(z.string()),
      answer_type: z.optional(z.string()),
      answers: z.array(z.union([z.string(), z.object({ answer: z.string() })])),
    }),
  ),
});
const questionsSchema = z.object({
  questions: z.array(z.object({ question_id: id, question: z.string(), image_id: z.optional(id) })),
});
const textVqaSchema = z.object({
  data: z.array(
    z.object({
      question_id: id,
      image_id: z.optional(id),
      question: z.optional(z.string()),
      answers: z._default(texts, []),
    }),
  ),
});
/** TextCaps: a line for every caption. */
const textCapsSchema = z.object({ data: z.array(z.object({ image_id: id, caption_str: z.string() })) });
/** Karpathy's splits of COCO (dataset_coco.json). */
const karpathySchema = z.object({
  images: z.array(
    z.object({
      cocoid: id,
      filename: z.string(),
      split: z.string(),
      sentences: z.array(z.object({ raw: z.string() })),
    }),
  ),
});
/** VATEX: ten English captions a video. */
const vatexSchema = z.array(z.object({ videoID: z.string(), enCap: z.array(z.string()) }));
/** MSRVTT-QA and MSVD-QA: one answer a question; videos are `video7010.mp4`. */
const videoQaSchema = z.array(
  z.object({ id, question: z.string(), answer: z.string(), video_id: z.optional(id), video: z.optional(z.string()) }),
);
const referenceLine = z.union([
  z.object({ file: z.string(), references: texts }),
  z.object({ image_id: id, references: texts }),
  z.object({ question_id: id, question: z.optional(z.string()), file: z.optional(z.string()), answers: texts }),
]);

/**
 * Reads references: annotations of COCO captions, VQAv2 (`questions` from its other file, for people's eyes), TextVQA,
 * VATEX or MSRVTT-QA, or JSONL with `file` or `image_id` and `references`, or `question_id` and `answers`. JSONL is read a line at
 * a time, a JSON file as a whole.
 *
 * @throws MetricError with the line or the path of what is wrong
 */
export async function readReferences(
  content: FileContent,
  file: string,
  questions?: { readonly content: FileContent; readonly file: string },
): Promise<References> {
  const source = openTextFile(content, file);
  const first = await firstLine(source);
  const head = wholeJson(first.text);
  if (isLine(head)) return referenceLines(linesFrom(first, source), file);
  const rest = await source.rest(JSON_LIMIT);
  if (first.text.trimStart().startsWith('[')) return videoReferences(parseJson(`${first.text}\n${rest}`, file), file);
  const json = rest.trim() === '' ? head : wholeJson(`${first.text}\n${rest}`);
  if (json === undefined || isLine(json)) {
    const lines = openTextFile(`${first.text}\n${rest}`, file);
    return referenceLines(linesFrom(await firstLine(lines), lines), file);
  }
  const keys = new Set(Object.keys(json));
  if (!keys.has('annotations') && keys.has('images')) {
    const { images } = checked(karpathySchema, json, file);
    const items = images
      .filter(({ split }) => split === 'test')
      .map(({ cocoid, filename, sentences }) => ({
        id: String(cocoid),
        file: filename,
        texts: sentences.map(({ raw }) => raw),
      }));
    return { task: 'caption', metric: 'captions', items };
  }
  if (!keys.has('annotations') && keys.has('questions')) {
    const { questions: asked } = checked(questionsSchema, json, file);
    const items = asked.map(({ question_id, image_id, question }) => ({
      id: String(question_id),
      imageId: image_id === undefined ? undefined : String(image_id),
      texts: [],
      question,
    }));
    return { task: 'question', metric: 'vqa', items };
  }
  if (keys.has('data') && isTextCaps(json['data'])) {
    const { data } = checked(textCapsSchema, json, file);
    const captions = new Map<string, string[]>();
    for (const { image_id, caption_str } of data) {
      const key = String(image_id);
      captions.set(key, [...(captions.get(key) ?? []), caption_str]);
    }
    const items = [...captions].map(([key, list]) => ({ id: key, file: `${key}.jpg`, texts: list }));
    return { task: 'caption', metric: 'captions', items };
  }
  if (keys.has('data')) {
    const { data } = checked(textVqaSchema, json, file);
    const items = data.map(({ question_id, image_id, question, answers }) => ({
      id: String(question_id),
      file: image_id === undefined ? undefined : `${image_id}.jpg`,
      imageId: image_id === undefined ? undefined : String(image_id),
      texts: answers,
      question,
    }));
    return { task: 'question', metric: 'textvqa', items };
  }
  const { annotations: list } = checked(
    z.object({ annotations: z.array(z.record(z.string(), z.unknown())) }),
    json,
    file,
  );
  if (list.length > 0 && 'caption' in list[0]!) return cocoReferences(json, file);
  return vqaReferences(json, file, questions === undefined ? [] : await readQuestions(questions));
}

/** Lists of VATEX and MSRVTT-QA, of which each item is about a video. */
function videoReferences(json: unknown, file: string): References {
  if (Array.isArray(json) && 'enCap' in Object(json[0])) {
    const items = checked(vatexSchema, json, file).map(({ videoID, enCap }) => ({
      ...{ id: videoID, file: videoID, texts: enCap },
    }));
    return { task: 'caption', metric: 'captions', items };
  }
  const items = checked(videoQaSchema, json, file).map(({ id: key, question, answer, video_id, video }) => ({
    ...{ id: String(key), file: video ?? (video_id === undefined ? undefined : `video${video_id}`) },
    ...{ imageId: textOf(video_id), texts: [answer], question },
  }));
  return { task: 'question', metric: 'exact', items };
}

type AskedQuestion = z.infer<typeof questionsSchema>['questions'][number];

async function readQuestions(asked: {
  readonly content: FileContent;
  readonly file: string;
}): Promise<AskedQuestion[]> {
  const text = await openTextFile(asked.content, asked.file).rest(JSON_LIMIT);
  return checked(questionsSchema, parseJson(text, asked.file), asked.file).questions;
}

const isTextCaps = (data: unknown): boolean => Array.isArray(data) && 'caption_str' in Object(data[0]);

function cocoReferences(json: unknown, file: string): References {
  const { images, annotations } = checked(cocoSchema, json, file);
  const names = new Map(images.map((image) => [String(image.id), image.file_name]));
  const captions = new Map<string, string[]>(images.map((image) => [String(image.id), []]));
  for (const { image_id, caption } of annotations) {
    const known = captions.get(String(image_id));
    if (known === undefined) captions.set(String(image_id), [caption]);
    else known.push(caption);
  }
  const items = [...captions].map(([key, list]) => ({ id: key, file: names.get(key), texts: list }));
  return { task: 'caption', metric: 'captions', items };
}

function vqaReferences(json: unknown, file: string, asked: readonly AskedQuestion[]): References {
  const { annotations } = checked(vqaSchema, json, file);
  const byId = new Map(asked.map((question) => [String(question.question_id), question]));
  const items = annotations.map((entry) => ({
    id: String(entry.question_id),
    texts: entry.answers.map((answer) => (typeof answer === 'string' ? answer : answer.answer)),
    question: byId.get(String(entry.question_id))?.question,
    imageId: textOf(entry.image_id ?? byId.get(String(entry.question_id))?.image_id),
    questionType: entry.question_type,
    answerType: entry.answer_type,
  }));
  return { task: 'question', metric: 'vqa', items };
}

const textOf = (value: string | number | undefined): string | undefined =>
  value === undefined ? undefined : String(value);

async function referenceLines(lines: AsyncIterable<TextLine>, file: string): Promise<References> {
  const items: Reference[] = [];
  let task: References['task'] | undefined;
  for await (const { text, number } of lines) {
    const path = `line ${number}`;
    const row = checked(referenceLine, parseJson(text, file, path), file, path);
    const kind = 'answers' in row ? 'question' : 'caption';
    task ??= kind;
    if (task !== kind) throw new MetricError({ file, path, code: 'mixed', detail: 'captions and answers in one file' });
    items.push(
      'answers' in row
        ? { id: String(row.question_id), file: row.file, texts: row.answers, question: row.question }
        : {
            id: 'file' in row ? row.file : String(row.image_id),
            file: 'file' in row ? row.file : undefined,
            texts: row.references,
          },
    );
  }
  const people = items.every(({ texts: answers }) => answers.length === 10);
  return { task: task!, metric: task === 'caption' ? 'captions' : people ? 'vqa' : 'exact', items };
}

/** A reference with what was said of the same image or question. */
export interface Pair extends Reference {
  readonly prediction: string;
}

/**
 * Puts predictions and references together: by id, or by the file's name where predictions name files and references
 * have ids of their own.
 *
 * @throws MetricError where an image or question has no prediction or no reference (unless `subset`), or two
 */
export function pairUp(predictions: readonly Prediction[], references: References, subset = false): Pair[] {
  const said = new Map<string, string>();
  for (const { id: key, text } of predictions) {
    if (said.has(key)) throw new MetricError({ path: quote(key), code: 'duplicate-id', detail: 'is predicted twice' });
    said.set(key, text);
  }
  const byName = namedBy(said.keys(), baseName);
  const byStem = namedBy(said.keys(), (key) => baseName(key).replace(/\.\w+$/, '')); // lists of videos leave the ending out
  const pairs: Pair[] = [];
  const missing: string[] = [];
  const used = new Set<string>();
  const known = new Set<string>();
  for (const reference of references.items) {
    if (known.has(reference.id))
      throw new MetricError({ path: quote(reference.id), code: 'duplicate-id', detail: 'has references twice' });
    known.add(reference.id);
    const file = references.task === 'question' ? undefined : reference.file;
    const named = file === undefined ? undefined : (byName.get(baseName(file)) ?? byStem.get(file));
    const key = said.has(reference.id) ? reference.id : named;
    if (key === undefined) missing.push(reference.id);
    else {
      used.add(key);
      pairs.push({ ...reference, prediction: said.get(key)! });
    }
  }
  const odd = [...said.keys()].filter((key) => !used.has(key));
  const fail = (keys: readonly string[], what: string): never => {
    const detail = `${keys.length} of ${what}, the first is ${quote(keys[0]!)}`;
    throw new MetricError({ code: 'unequal-ids', detail });
  };
  if (odd.length > 0) fail(odd, `${said.size} predictions have no reference`);
  if (missing.length > 0 && !(subset && pairs.length > 0))
    fail(missing, `${references.items.length} references have no prediction`);
  return pairs;
}

/** Keys by a name; undefined for a name that several have. */
function namedBy(keys: Iterable<string>, nameOf: (key: string) => string): Map<string, string | undefined> {
  const found = new Map<string, string | undefined>();
  for (const key of keys) found.set(nameOf(key), found.has(nameOf(key)) ? undefined : key);
  return found;
}

const baseName = (path: string): string => path.split(/[\\/]/).at(-1)!;

/** Results as the coco caption server takes them; ids that are numbers are written as numbers. */
export const cocoResults = (pairs: readonly Pair[]): string =>
  JSON.stringify(pairs.map(({ id: key, prediction }) => ({ image_id: numericId(key), caption: prediction })));

/** Results as EvalAI takes them for VQAv2 and TextVQA. */
export const vqaResults = (pairs: readonly Pair[]): string =>
  JSON.stringify(pairs.map(({ id: key, prediction }) => ({ question_id: numericId(key), answer: prediction })));

/** An id as files of the field have it: a number where it is one. */
export const numericId = (key: string): string | number => (/^(0|[1-9]\d{0,14})$/.test(key) ? Number(key) : key);

async function firstLine(source: TextFile): Promise<TextLine> {
  const first = await source.next(JSON_LIMIT);
  if (first !== undefined) return first;
  throw new MetricError({ file: source.file, code: 'empty-file', detail: 'there is nothing in it' });
}

/** `first`, which may have been a whole file, and those after it. */
async function* linesFrom(first: TextLine, source: TextFile): AsyncGenerator<TextLine> {
  if (first.text.length > LINE_LIMIT) {
    const detail = `more than ${LINE_LIMIT} bytes`;
    throw new MetricError({ file: source.file, path: `line ${first.number}`, code: 'too-long', detail });
  }
  for (let line: TextLine | undefined = first; line !== undefined; line = await source.next(LINE_LIMIT)) yield line;
}

/** The object that a text is; undefined for all else. */
function wholeJson(text: string): Record<string, unknown> | undefined {
  try {
    const json: unknown = JSON.parse(text);
    return typeof json === 'object' && json !== null && !Array.isArray(json)
      ? (json as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** A file of one line is an object too. */
const isLine = (json: Record<string, unknown> | undefined): boolean =>
  json !== undefined && ('references' in json || 'answers' in json);

function parseJson(text: string, file: string, path?: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MetricError({ file, path, code: 'not-json', detail: (cause as Error).message, cause });
  }
}

function checked<T extends z.core.$ZodType>(schema: T, json: unknown, file: string, line?: string): z.infer<T> {
  const parsed = z.safeParse(schema, json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = [...(line === undefined ? [] : [line]), ...(issue?.path.map(String) ?? [])].join('.');
  const detail =
    issue?.code === 'invalid_union'
      ? 'has none of the layouts that are known (docs/evaluation.md)'
      : (issue?.message ?? 'is wrong');
  throw new MetricError({ file, path: path === '' ? undefined : path, code: 'layout', detail });
}
