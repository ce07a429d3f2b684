import * as z from 'zod/mini';
import { MetricError, quote } from '../errors.js';

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
/** Longest line of a file of lines, in characters. */
const LINE_LIMIT = 1_000_000;

const predictionRow = z.union([
  z.object({ image_id: id, caption: z.string() }), // coco results
  z.object({ question_id: id, answer: z.string() }), // VQAv2 results, and the original's answers
  z.object({ question_id: id, text: z.string() }), // our answers
  z.object({ file: z.string(), text: z.string() }), // our captions
]);

/**
 * Reads predictions: results of COCO or VQAv2 (a JSON array), our JSONL, or the original's TSV (`key`, then
 * `[{"caption": …}]`; for answers a line of JSON).
 *
 * @throws MetricError with the line or the path of what is wrong
 */
export function parsePredictions(text: string, file: string): Prediction[] {
  const start = checkText(text, file);
  if (start === '[') return checked(z.array(predictionRow), parseJson(text, file), file).map(predictionOf);
  const predictions: Prediction[] = [];
  for (const [line, at] of linesOf(text, file)) {
    const place = { file, path: `line ${at}` };
    const tab = line.startsWith('{') ? -1 : line.indexOf('\t');
    if (tab < 0) {
      predictions.push(predictionOf(checked(predictionRow, parseJson(line, file, place.path), file, place.path)));
      continue;
    }
    const said = checked(
      z.array(z.object({ caption: z.string() })),
      parseJson(line.slice(tab + 1), file, place.path),
      file,
      place.path,
    );
    if (said.length === 0) throw new MetricError({ ...place, code: 'missing-field', detail: 'there is no caption' });
    predictions.push({ id: line.slice(0, tab), text: said[0]!.caption });
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
const referenceLine = z.union([
  z.object({ file: z.string(), references: texts }),
  z.object({ image_id: id, references: texts }),
  z.object({ question_id: id, question: z.optional(z.string()), file: z.optional(z.string()), answers: texts }),
]);

/**
 * Reads references: annotations of COCO captions, VQAv2 (`questions` from its other file, for people's eyes) or
 * TextVQA, or JSONL with `file` or `image_id` and `references`, or `question_id` and `answers`.
 *
 * @throws MetricError with the line or the path of what is wrong
 */
export function parseReferences(
  text: string,
  file: string,
  questions?: { readonly text: string; readonly file: string },
): References {
  checkText(text, file);
  const json = wholeJson(text);
  if (json === undefined || isLine(json)) return referenceLines(text, file);
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
  return list.length > 0 && 'caption' in list[0]! ? cocoReferences(json, file) : vqaReferences(json, file, questions);
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

function vqaReferences(
  json: unknown,
  file: string,
  questions?: { readonly text: string; readonly file: string },
): References {
  const { annotations } = checked(vqaSchema, json, file);
  const asked =
    questions === undefined
      ? []
      : checked(questionsSchema, parseJson(questions.text, questions.file), questions.file).questions;
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

function referenceLines(text: string, file: string): References {
  const items: Reference[] = [];
  let task: References['task'] | undefined;
  for (const [line, at] of linesOf(text, file)) {
    const path = `line ${at}`;
    const row = checked(referenceLine, parseJson(line, file, path), file, path);
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
  const byName = new Map<string, string | undefined>(); // undefined: a name of several files
  for (const key of said.keys()) byName.set(baseName(key), byName.has(baseName(key)) ? undefined : key);
  const pairs: Pair[] = [];
  const missing: string[] = [];
  const used = new Set<string>();
  for (const reference of references.items) {
    const named =
      reference.file === undefined || references.task === 'question' ? undefined : byName.get(baseName(reference.file));
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

const baseName = (path: string): string => path.split(/[\\/]/).at(-1)!;

/** Results as the coco caption server takes them; ids that are numbers are written as numbers. */
export const cocoResults = (pairs: readonly Pair[]): string =>
  JSON.stringify(pairs.map(({ id: key, prediction }) => ({ image_id: numericId(key), caption: prediction })));

/** Results as EvalAI takes them for VQAv2 and TextVQA. */
export const vqaResults = (pairs: readonly Pair[]): string =>
  JSON.stringify(pairs.map(({ id: key, prediction }) => ({ question_id: numericId(key), answer: prediction })));

/** An id as files of the field have it: a number where it is one. */
export const numericId = (key: string): string | number => (/^(0|[1-9]\d{0,14})$/.test(key) ? Number(key) : key);

/** The first character that counts. */
function checkText(text: string, file: string): string {
  const odd = text.startsWith('\ufeff')
    ? 'starts with a byte order mark: save it without'
    : text.includes('\ufffd')
      ? 'has bytes that are not UTF-8'
      : undefined;
  if (odd !== undefined) throw new MetricError({ file, code: 'encoding', detail: odd });
  const [start] = text.trimStart();
  if (start === undefined) throw new MetricError({ file, code: 'empty-file', detail: 'there is nothing in it' });
  return start;
}

/** The object that the whole file is; undefined for a file of lines. */
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
const isLine = (json: Record<string, unknown>): boolean => 'references' in json || 'answers' in json;

function* linesOf(text: string, file: string): Generator<[line: string, number: number]> {
  let number = 0;
  for (let start = 0; start < text.length; ) {
    const feed = text.indexOf('\n', start);
    const end = feed < 0 ? text.length : feed;
    number++;
    if (end - start > LINE_LIMIT) {
      throw new MetricError({
        file,
        path: `line ${number}`,
        code: 'too-long',
        detail: `more than ${LINE_LIMIT} characters`,
      });
    }
    const line = text.slice(start, end).replace(/\r$/, '');
    if (line.trim() !== '') yield [line, number];
    start = end + 1;
  }
}

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
