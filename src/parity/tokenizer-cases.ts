import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { readJson } from '../checkpoint/json.js';
import { ConfigError } from '../errors.js';
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.js';
import {
  type CaseKind,
  checkLayout,
  exactRow,
  type Folder,
  notRun,
  type ParityCase,
  type ParityRow,
  readJsonFile,
  sniffJson,
} from './cases.js';
import { countRows, firstDifference } from './compare.js';
import { idRows } from './generation-cases.js';

const VOCABULARY = 'vocab.txt';

const ids = z.array(z.int());
const decoded = { skip_clean: z.string(), skip_raw: z.string(), keep_clean: z.string(), keep_raw: z.string() };

/** What a row of a file can be; the first layout that fits the first row is that of the file. */
const LAYOUTS = [
  { schema: z.object({ texts: z.array(z.string()), input_ids: idRows, attention_mask: idRows }), run: runBatch },
  { schema: z.object({ ids, ...decoded }), run: runDecode },
  { schema: z.object({ text: z.string(), max_length: z.int(), ids }), run: runTruncate },
  { schema: z.object({ text: z.string(), ids }), run: runEncode },
] as const;

const metaSign = z.object({ vocab_sha256: z.string() });

/** Texts and ids of a folder's vocab.txt: every NAME.jsonl, a row a line. */
export const tokenizerCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!folder.files.includes(VOCABULARY)) return undefined;
    const files = unclaimed.filter((file) => file.endsWith('.jsonl'));
    const cases = files.map((file) => rowsCase(folder, file));
    const hasMeta = unclaimed.includes('meta.json') && (await sniffJson(folder.path, 'meta.json', metaSign));
    if (hasMeta) cases.unshift(vocabularyCase(folder));
    return { cases, claims: [...files, ...(hasMeta ? ['meta.json'] : [])] };
  },
};

function vocabularyCase(folder: Folder): ParityCase {
  const name = `${folder.label}/${VOCABULARY}`;
  return {
    name,
    async *run() {
      const { vocab_sha256: expected } = await readJsonFile(folder.path, 'meta.json', metaSign);
      const found = createHash('sha256')
        .update(await readFile(join(folder.path, VOCABULARY)))
        .digest('hex');
      yield exactRow(name, 'sha256', found === expected ? 0 : 1, 'another vocabulary than the cases were made with');
    },
  };
}

function rowsCase(folder: Folder, file: string): ParityCase {
  const name = `${folder.label}/${file.replace(/\.jsonl$/, '')}`;
  return {
    name,
    async *run() {
      const rows = await readRows(folder.path, file);
      for (const { schema, run } of LAYOUTS) {
        if (!z.safeParse(schema, rows[0]).success) continue;
        const tokenizer = await openTokenizer(folder);
        yield* run(tokenizer, checkLayout(rows, file, z.array(schema)) as never, name);
        return;
      }
      yield notRun(name, '-', 'no layout of rows that parity knows');
    },
  };
}

async function openTokenizer(folder: Folder): Promise<Tokenizer> {
  const bytes = async (file: string) => new Uint8Array(await readFile(join(folder.path, file)));
  const config = 'tokenizer_config.json';
  return loadTokenizer({
    vocabTxt: { bytes: await bytes(VOCABULARY), file: VOCABULARY },
    ...(folder.files.includes(config) && {
      tokenizerConfig: { json: readJson(await bytes(config), config), file: config },
    }),
  });
}

async function readRows(folder: string, file: string): Promise<unknown[]> {
  const lines = (await readFile(join(folder, file), 'utf8')).split('\n');
  return lines.flatMap((line, index) => {
    if (line.trim() === '') return [];
    try {
      return [JSON.parse(line) as unknown];
    } catch {
      throw new ConfigError({ file, path: `line ${index + 1}`, code: 'not-json', detail: 'this line is not JSON' });
    }
  });
}

type TextRow = { readonly text: string; readonly ids: readonly number[] };

async function* runEncode(tokenizer: Tokenizer, rows: readonly TextRow[], name: string): AsyncGenerator<ParityRow> {
  yield countRows(name, 'ids', rows, (row) =>
    firstDifference(tokenizer.encode(row.text, { addSpecialTokens: false }), row.ids),
  );
  yield countRows(name, 'ids with [CLS] and [SEP]', rows, (row) =>
    firstDifference(tokenizer.encode(row.text), [tokenizer.clsId, ...row.ids, tokenizer.sepId]),
  );
}

async function* runTruncate(
  tokenizer: Tokenizer,
  rows: readonly (TextRow & { readonly max_length: number })[],
  name: string,
): AsyncGenerator<ParityRow> {
  yield countRows(name, 'ids', rows, (row) =>
    firstDifference(tokenizer.encode(row.text, { maxLength: row.max_length }), row.ids),
  );
}

async function* runBatch(
  tokenizer: Tokenizer,
  rows: readonly {
    readonly texts: readonly string[];
    readonly input_ids: readonly (readonly number[])[];
    readonly attention_mask: readonly (readonly number[])[];
  }[],
  name: string,
): AsyncGenerator<ParityRow> {
  const flat = (table: readonly (readonly number[])[]) => table.flatMap((row) => [...row, -1]);
  yield countRows(name, 'input_ids', rows, (row) =>
    firstDifference(flat(tokenizer.encodeBatch(row.texts).inputIds), flat(row.input_ids)),
  );
  yield countRows(name, 'attention_mask', rows, (row) =>
    firstDifference(flat(tokenizer.encodeBatch(row.texts).attentionMask), flat(row.attention_mask)),
  );
}

async function* runDecode(
  tokenizer: Tokenizer,
  rows: readonly ({ readonly ids: readonly number[] } & Readonly<Record<keyof typeof decoded, string>>)[],
  name: string,
): AsyncGenerator<ParityRow> {
  for (const column of Object.keys(decoded) as (keyof typeof decoded)[]) {
    const options = {
      skipSpecialTokens: column.startsWith('skip'),
      cleanUpTokenizationSpaces: column.endsWith('clean'),
    };
    yield countRows(name, column, rows, (row) => {
      const text = tokenizer.decode(row.ids, options);
      return text === row[column]
        ? undefined
        : `: ours ${JSON.stringify(text)}, expected ${JSON.stringify(row[column])}`;
    });
  }
}
