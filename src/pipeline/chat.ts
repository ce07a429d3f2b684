/** `image-text-to-text` in transformers 5's forms: chats, or a text about an image. */
import { OptionError } from '../errors.js';
import type { Answer, AnswerOptions, Caption, CaptionOptions } from '../image2text/captions.js';
import { promptIds, questionIds } from '../image2text/captions.js';
import type { Image2Text } from '../image2text/image2text.js';
import type { VisualInput } from '../image2text/inputs.js';
import { isVideoInput } from '../image2text/inputs.js';
import { readGeneration } from './generation-options.js';
import { contradiction, wrongType } from './options.js';

import { withStreamer } from './streaming.js';
import { answerAll, answerOptions, asVideo, decodeKnown, type Task } from './tasks.js';
import type { ChatContent, ChatMessage, ChatRecord } from './types.js';

/** One text to generate. */
interface Turn {
  readonly image: VisualInput;
  /** What the model goes on from: the question, and the beginning of its answer. */
  readonly prompt: string;
  /** The chat, or the text, as it was given. */
  readonly input: readonly ChatMessage[] | string;
  /** Whether the new text belongs to the last message. */
  readonly goesOn: boolean;
}

const OWN = ['returnFullText', 'continueFinalMessage'];

/**
 * Answers to texts about images. GIT knows one image and one question: of a chat these are the latest image, and the text of the last message of
 * the user. A last message of the assistant is the beginning of the answer.
 */
export const imageTextToText: Task = async (model, inputs) => {
  const [first, second, third] = inputs;
  const hasText = typeof second === 'string' || Array.isArray(second);
  const { generation, own } = readGeneration(hasText ? third : second, 'image-text-to-text', 'answer', model, OWN);
  const { returnFullText = true, continueFinalMessage } = own;
  for (const [name, value] of Object.entries(own))
    if (typeof value !== 'boolean') wrongType(name, 'true or false', value);
  const options = answerOptions(generation, model);
  const write = async (turns: readonly Turn[]): Promise<ChatRecord[][]> => {
    const answers = await writeTurns(model, turns, options);
    return turns.map((turn, n) =>
      [answers[n]!, ...answers[n]!.alternatives].map((answer) => ({
        input_text: turn.input,
        generated_text: generatedText(model, turn, answer, returnFullText === true),
      })),
    );
  };
  const read = (input: unknown): Turn[] => readInput(input, continueFinalMessage as boolean | undefined);
  if (hasText) return (await write(read({ images: first, text: second }))).flat();
  const isList = Array.isArray(first) && !isChat(first);
  if (!isList) return (await write(read(first))).flat();
  const listed = (first as readonly unknown[]).map(read);
  const rows = await write(listed.flat());
  return listed.map((turns) => rows.splice(0, turns.length).flat());
};

/** Turns without any text are captions; all others go on from their text as an answer from its question. */
async function writeTurns(model: Image2Text, turns: readonly Turn[], options: AnswerOptions): Promise<Caption[]> {
  const asked = turns.flatMap((turn, n) => (turn.prompt === '' ? [] : [n]));
  const requests = asked.map((n) => {
    const { image, prompt } = turns[n]!;
    const source = isVideoInput(image) && 'video' in image ? image.video : image;
    return { subject: image, source, question: prompt };
  });
  const answers: (Answer | Caption)[] = [];
  for (const [n, answer] of (await answerAll(model, requests, options)).entries()) answers[asked[n]!] = answer;
  for (const [n, { image, prompt }] of turns.entries()) {
    if (prompt === '') {
      answers[n] = await withStreamer(options as CaptionOptions, (ready) => model.caption(image, ready));
    }
  }
  return answers;
}

function generatedText(model: Image2Text, turn: Turn, answer: Caption, isFull: boolean): ChatRecord['generated_text'] {
  const { input, prompt, goesOn } = turn;
  const text = goesOn || typeof input === 'string' ? continuation(model, prompt, answer) : answer.text;
  if (!isFull) return text;
  if (typeof input === 'string') return input + text;
  if (!goesOn) return [...input, { role: 'assistant', content: text }];
  const last = input[input.length - 1]!;
  if (typeof last.content === 'string') return [...input.slice(0, -1), { ...last, content: last.content + text }];
  const parts = last.content.slice(0, -1);
  const part = last.content[last.content.length - 1]!;
  const longer = { ...part, text: ('text' in part ? (part.text ?? '') : '') + text } as ChatContent;
  return [...input.slice(0, -1), { ...last, content: [...parts, longer] }];
}

/** The new text as it follows the prompt: with its space, unless it goes on a word. */
function continuation(model: Image2Text, prompt: string, { tokens, text }: Caption): string {
  const ids = prompt === '' ? promptIds(model.tokenizer) : questionIds(model.tokenizer, prompt);
  const before = decodeKnown(model, ids);
  const whole = decodeKnown(model, [...ids, ...tokens.map(({ id }) => id)]);
  return whole.startsWith(before) ? whole.slice(before.length) : text;
}

const isMessage = (value: unknown): value is ChatMessage =>
  typeof value === 'object' && value !== null && 'role' in value;
const isChat = (value: unknown): value is readonly ChatMessage[] =>
  Array.isArray(value) && value.length > 0 && value.every(isMessage);

const FORMS =
  'expected a chat ([{ role, content }]), { images, text }, a list of these, or images and a text: pipe(image, text)';

function readInput(input: unknown, goesOn: boolean | undefined): Turn[] {
  if (isChat(input)) return [readChat(input, [], goesOn)];
  if (typeof input !== 'object' || input === null || !('text' in input)) return wrongType('text', FORMS, input);
  const { text, image, images = image } = input as { text: unknown; image?: unknown; images?: unknown };
  const given: readonly unknown[] = images === undefined ? [] : Array.isArray(images) ? images : [images];
  if (isChat(text)) return [readChat(text, given, goesOn)];
  const texts: readonly unknown[] = Array.isArray(text) ? text : [text];
  if (texts.length !== given.length) {
    contradiction('text', `${texts.length} texts for ${given.length} images: each image needs its text`);
  }
  return texts.map((one, n) => {
    if (typeof one !== 'string') return wrongType('text', FORMS, one);
    return { image: given[n] as VisualInput, prompt: one.trim(), input: one, goesOn: true };
  });
}

function readChat(messages: readonly ChatMessage[], images: readonly unknown[], asked: boolean | undefined): Turn {
  const left = [...images];
  let image: VisualInput | undefined;
  let question = '';
  for (const { role, content } of messages) {
    const parts = typeof content === 'string' ? [{ type: 'text', text: content } as const] : content;
    if (!Array.isArray(parts)) wrongType('content', 'a text or a list of parts', content);
    const seen = parts.flatMap((part) => readImage(part, left));
    if (seen.length > 1) {
      const detail = `${seen.length} images in one message; GIT takes one: give a video, { type: 'video', video: frames([…]) }`;
      throw new OptionError({ path: 'content', code: 'several-images', detail, unsupported: true });
    }
    image = seen[0] ?? image;
    if (role === 'user') question = textOf(parts);
  }
  if (left.length > 0) contradiction('images', `${left.length} more than the messages have places for`);
  if (image === undefined) {
    const detail = 'no message has an image';
    throw new OptionError({ path: 'images', code: 'missing', detail });
  }
  const last = messages[messages.length - 1]!;
  const goesOn = asked ?? last.role === 'assistant';
  const begun = goesOn && last.role !== 'user' ? textOf(last.content) : '';
  const prompt = [question, begun].filter((text) => text !== '').join(' ');
  return { image, prompt, input: messages, goesOn };
}

const textOf = (content: ChatMessage['content']): string =>
  (typeof content === 'string'
    ? content
    : content.flatMap((part) => (part.type === 'text' ? [part.text] : [])).join(' ')
  ).trim();

/** The image or video of a part of a message, if it has one; one without an address is the next of `images`. */
function readImage(part: ChatContent, images: unknown[]): VisualInput[] {
  const { type, image, video, url, path, base64, image_url } = part as Readonly<Record<string, unknown>>;
  if (type === 'text') {
    if (typeof (part as { text?: unknown }).text !== 'string') wrongType('content', 'a text', part);
    return [];
  }
  if (type === 'image_url')
    return [(image_url as { url?: VisualInput } | undefined)?.url ?? wrongType('image_url', '{ url }', image_url)];
  if (type !== 'image' && type !== 'video') return wrongType('content', 'parts of type text, image or video', type);
  if (typeof base64 === 'string') return [type === 'video' ? asVideo(readBase64(base64)) : readBase64(base64)];
  const found = (type === 'video' ? video : image) ?? url ?? path ?? images.shift();
  if (found === undefined)
    return wrongType('content', `a part of type ${type} with ${type}, url, path or base64`, part);
  return [type === 'video' ? asVideo(found) : (found as VisualInput)];
}

function readBase64(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text.replace(/^data:[^,]*,/, '')), (unit) => unit.charCodeAt(0));
  } catch (cause) {
    throw new OptionError({ path: 'base64', code: 'not-base64', detail: 'this is not base64', cause });
  }
}
