import * as z from 'zod/mini';
import { ConfigError } from '../errors.js';
import {
  badWords,
  logSumExp,
  minLength,
  noRepeatNgram,
  repetitionPenalty,
  temperature,
  topK,
  topP,
} from '../generation/logits-processors.js';
import type { LogitsProcessor } from '../generation/session.js';
import type { HostTensor } from './cases.js';
import {
  type CaseFile,
  type CaseKind,
  type Folder,
  firstOf,
  needTensor,
  notRun,
  type ParityCase,
  type ParityRow,
  readCaseFile,
  readJsonFile,
  sniffJson,
} from './cases.js';
import { compareTensor } from './compare.js';
import { readIds } from './forward.js';
import { idRows } from './generation-cases.js';

const sign = z.object({ cases: firstOf(z.object({ name: z.string(), order: z.unknown() })) });

/** `["top_k", 5, "min_tokens_to_keep", 4]`: a rule, its value, then further arguments by name. */
const step = z.array(z.union([z.string(), z.number(), idRows])).check(z.minLength(2));
const schema = z.object({ cases: z.array(z.object({ name: z.string(), order: z.array(step) })) });
type Golden = z.infer<typeof schema>['cases'][number];

/** What the rules on logits make of given `raw_logits` [B, V] after `input_ids` [B, T]: NAME.logits and their softmax, NAME.probs. */
export const samplingCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!folder.files.includes('config.json')) return undefined;
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, file, sign))) continue;
      const { cases: goldens } = await readJsonFile(folder.path, file, schema);
      const base = file.replace(/\.json$/, '');
      cases.push(...goldens.map((golden) => samplingCase(folder, base, golden)));
      claims.push(file, `${base}.safetensors`);
    }
    return { cases, claims };
  },
};

function samplingCase(folder: Folder, base: string, golden: Golden): ParityCase {
  const name = `${folder.label}/${base}/${golden.name}`;
  return {
    name,
    async *run({ models }) {
      const { config } = await models.get(folder.path);
      const file = await readCaseFile(folder.path, base, true);
      const unknown = golden.order.find(([code]) => !Object.hasOwn(RULES, String(code)));
      if (unknown === undefined) yield* runSampling(file, golden, config.vocabSize, config.eosTokenIds, name);
      else yield notRun(name, '-', `no rule here of the name "${String(unknown[0]).slice(0, 60)}"`);
    },
  };
}

function* runSampling(
  file: CaseFile,
  golden: Golden,
  vocabulary: number,
  eosIds: readonly number[],
  caseName: string,
): Generator<ParityRow> {
  const raw = needTensor(file, 'raw_logits');
  const ids = readIds(needTensor(file, 'input_ids'), file.name, 'input_ids', vocabulary);
  const processors = golden.order.map((code) => makeProcessor(code, eosIds, file.name));
  const logits = new Float32Array(raw.values.length);
  const probs = new Float32Array(raw.values.length);
  for (const [row, tokens] of ids.entries()) {
    const [start, end] = [(row * logits.length) / ids.length, ((row + 1) * logits.length) / ids.length];
    const scores = Float32Array.from({ length: end - start }, (_, i) => raw.values[start + i]!);
    for (const process of processors) process(scores, tokens);
    logits.set(scores, start);
    const normalizer = logSumExp(
      scores,
      scores.reduce((most, x) => Math.max(most, x), Number.NEGATIVE_INFINITY),
    );
    probs.set(
      scores.map((score) => Math.exp(score - normalizer)),
      start,
    );
  }
  for (const [part, values] of [
    ['logits', logits],
    ['probs', probs],
  ] as const) {
    const expected = needTensor(file, `${golden.name}.${part}`);
    const tensors = new Map([['expected', sortTies(expected, raw)]]);
    const row = compareTensor(caseName, 'expected', sortTies({ shape: raw.shape, values }, raw), { ...file, tensors });
    yield { ...row, tensor: part };
  }
}

/**
 * Which of exactly equal logits a rule removes depends on the sort of the program, and is not compared: within a group of equal raw
 * logits of a row the values are put in order.
 */
function sortTies(x: HostTensor, raw: HostTensor): HostTensor {
  const values = Float32Array.from(x.values);
  const width = raw.shape.at(-1)!;
  const groups = new Map<string, number[]>();
  for (let i = 0; i < raw.values.length; i++) {
    const key = `${Math.floor(i / width)}:${raw.values[i]}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [i]);
    else group.push(i);
  }
  for (const paths of groups.values()) {
    if (paths.length === 1) continue;
    const sorted = paths.map((path) => values[path]!).sort((a, b) => b - a);
    for (const [at, path] of paths.entries()) values[path] = sorted[at]!;
  }
  return { shape: x.shape, values };
}

type Step = Golden['order'][number];
type Named = (name: string) => number | undefined;

/** Hugging Face's rules by name, made from their value and further arguments. */
const RULES: Readonly<
  Record<string, (value: Step[number], named: Named, eosIds: readonly number[]) => LogitsProcessor>
> = {
  temperature: (value) => temperature(Number(value)),
  top_k: (value, named) => topK(Number(value), named('min_tokens_to_keep')),
  top_p: (value, named) => topP(Number(value), named('min_tokens_to_keep')),
  repetition_penalty: (value) => repetitionPenalty(Number(value)),
  no_repeat_ngram_size: (value) => noRepeatNgram(Number(value)),
  bad_words_ids: (value, _, eosIds) => badWords(value as number[][], eosIds),
  min_length: (value, _, eosIds) => minLength(Number(value), eosIds),
  min_new_tokens: (value, named, eosIds) => minLength((named('prompt_length') ?? 0) + Number(value), eosIds),
};

function makeProcessor([code, value, ...rest]: Step, eosIds: readonly number[], file: string): LogitsProcessor {
  if (Array.isArray(value) !== (code === 'bad_words_ids') || typeof value === 'string') {
    const detail = `the value of ${String(code).slice(0, 60)} is of the wrong type`;
    throw new ConfigError({ file: `${file}.json`, path: 'order', code: 'case-layout', detail });
  }
  const named: Named = (name) => {
    const at = rest.indexOf(name);
    return at < 0 ? undefined : Number(rest[at + 1]);
  };
  const own = named('eos_token_id');
  return RULES[String(code)]!(value!, named, own === undefined ? eosIds : [own]);
}
