import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { readJson } from '../checkpoint/json.js';
import { Image2TextError } from '../errors.js';
import { decodeImage } from '../image/decode.js';
import { preprocess } from '../image/preprocess.js';
import { type ResizeFilter, resize } from '../image/resize.js';
import { openImageConfig } from '../image2text/load.js';
import { parseGitConfig } from '../model/git-config.js';
import { fromDirectory } from '../platform/node-files.js';
import { loadTokenizer } from '../tokenizer/tokenizer.js';
import {
  type CaseKind,
  type Folder,
  failed,
  needTensor,
  notRun,
  type ParityCase,
  type ParityRow,
  readCaseFile,
  readJsonFile,
  sniffJson,
} from './cases.js';
import { compareNumbers, countRows, firstDifference } from './compare.js';
import { runForward } from './forward.js';
import { channelsLast, compareFacts, sha256 } from './image-cases.js';

const FILE = 'manifest.json';
const EXPECTED = 'expected.safetensors';

const imageEntry = z.object({
  file: z.string(),
  expect: z.string(),
  width: z.optional(z.int()),
  height: z.optional(z.int()),
  sha256: z.optional(z.string()),
});
const resized = z.object({
  file: z.string(),
  width: z.int(),
  height: z.int(),
  resample: z.enum(['nearest', 'box', 'bilinear', 'hamming', 'bicubic', 'lanczos']),
  sha256: z.string(),
});
const folderEntry = z.object({ folder: z.string(), expect: z.optional(z.string()) });
const tokenizerEntry = z.object({
  folder: z.string(),
  rows: z.array(z.object({ text: z.string(), ids: z.array(z.int()), decoded: z.string() })),
});
const schema = z.object({
  pictures: z._default(z.array(imageEntry), []),
  resizes: z._default(z.array(resized), []),
  checkpoints: z._default(z.array(folderEntry), []),
  processors: z._default(z.array(folderEntry), []),
  tokenizers: z._default(z.array(tokenizerEntry), []),
});
type Manifest = z.infer<typeof schema>;

/** By these a file is known. */
const sign = z.union([
  z.object({ tokenizers: z.array(tokenizerEntry) }),
  z.object({ pictures: z.array(z.object({ file: z.string(), expect: z.string() })) }),
]);

/** Tolerance of the logits of a checkpoint, against the float64 run. */
const LOGITS_TOLERANCE = 1e-4;

/**
 * A collection of files and folders as people have them: `manifest.json` says what each must give. Images, resizes,
 * checkpoints, processors and tokenizers; what lies in the folders it names is no case of its own.
 */
export const manifestCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!unclaimed.includes(FILE) || !(await sniffJson(folder.path, FILE, sign))) return undefined;
    const manifest = await readJsonFile(folder.path, FILE, schema);
    return { cases: casesOf(folder, manifest), claims: [FILE, ...claimsOf(manifest)] };
  },
};

function claimsOf({ checkpoints, processors }: Manifest): string[] {
  const parents = new Set(checkpoints.map((entry) => entry.folder.split('/').slice(0, -1).join('/')));
  return [...parents, ...processors.map((entry) => entry.folder)].map((path) =>
    path === '' ? EXPECTED : `${path}/${EXPECTED}`,
  );
}

function casesOf(folder: Folder, manifest: Manifest): ParityCase[] {
  const named = (
    path: string,
    run: (caseName: string, scope: Parameters<ParityCase['run']>[0]) => AsyncGenerator<ParityRow>,
  ): ParityCase => {
    const name = `${folder.label}/${path}`;
    return { name, run: (scope) => run(name, scope) };
  };
  return [
    ...manifest.pictures.map((entry) => named(entry.file, (name) => imageRow(folder, name, entry))),
    ...manifest.resizes.map((entry) => {
      const path = `${entry.file} ${entry.width}x${entry.height} ${entry.resample}`;
      return named(path, (name) => resizeRow(folder, name, entry));
    }),
    ...manifest.checkpoints.map((entry) =>
      named(entry.folder, async function* (name, { models }) {
        const parent = join(folder.path, entry.folder, '..');
        const file = await readCaseFile(parent, EXPECTED.replace('.safetensors', ''), false);
        const tensors = new Map(file.tensors);
        const scaled = tensors.get('logits.scaled_head.f64');
        for (const key of tensors.keys()) if (key.startsWith('logits.scaled_head')) tensors.delete(key);
        if (/times [\d.]+$/.test(entry.expect ?? '') && scaled !== undefined) {
          tensors.delete('logits');
          tensors.set('logits.f64', scaled);
        }
        const git = await models.get(join(folder.path, entry.folder));
        yield* runForward(git, { ...file, tensors, facts: { atol: LOGITS_TOLERANCE } }, name);
      }),
    ),
    ...manifest.processors.map((entry) => named(entry.folder, (name) => processorRow(folder, name, entry.folder))),
    ...manifest.tokenizers.map((entry) => named(entry.folder, (name) => tokenizerRows(folder, name, entry))),
  ];
}

const decode = async (path: string, file: string) =>
  decodeImage(new Uint8Array(await readFile(join(path, file))), { file });

async function* imageRow(folder: Folder, name: string, entry: Manifest['pictures'][number]): AsyncGenerator<ParityRow> {
  const image = await decode(folder.path, entry.file).catch((error: unknown) => {
    if (error instanceof Image2TextError) return error;
    throw error;
  });
  if (entry.expect === 'refused') {
    const wrong = image instanceof Error ? 0 : 1;
    yield compareFacts(name, 'refused', { decodes: wrong }, { decodes: 0 });
  } else if (image instanceof Error) {
    yield failed(name, 'decoded', image.message);
  } else {
    const { width, height, data } = image;
    const row = compareFacts(name, 'decoded', { width, height, sha256: sha256(data) }, entry);
    const isLossy = entry.file.endsWith('.avif') && width === entry.width && height === entry.height;
    yield row.verdict === 'fail' && isLossy
      ? notRun(
          name,
          'decoded',
          'the size is right; decoders of AVIF round differently, and a hash cannot tell by how much',
        )
      : row;
  }
}

async function* resizeRow(folder: Folder, name: string, entry: Manifest['resizes'][number]): AsyncGenerator<ParityRow> {
  const { width, height, resample } = entry;
  const { data } = resize(await decode(folder.path, entry.file), width, height, resample satisfies ResizeFilter);
  yield compareFacts(name, 'resized', { sha256: sha256(data) }, { sha256: entry.sha256 });
}

/** The image beside the manifest through the processor of a folder, bit for bit. */
async function* processorRow(folder: Folder, name: string, path: string): AsyncGenerator<ParityRow> {
  const image = folder.files.find((file) => /^processor-picture\.\w+$/.test(file));
  if (image === undefined) {
    yield notRun(name, 'pixel_values', 'there is no processor-picture beside the manifest');
    return;
  }
  const at = join(folder.path, path);
  const config = parseGitConfig(readJson(new Uint8Array(await readFile(join(at, 'config.json'))), 'config.json'));
  const settings = await openImageConfig(await fromDirectory(at), config);
  const { data, shape } = preprocess([await decode(folder.path, image)], settings);
  const expected = needTensor(await readCaseFile(at, EXPECTED.replace('.safetensors', ''), false), 'pixel_values');
  const [, channels, height, width] = expected.shape as [number, number, number, number];
  const values = channelsLast(expected.values, [channels, height, width]);
  yield compareNumbers(
    name,
    'pixel_values',
    { shape: shape.slice(1), values: data },
    { expected: { shape: [height, width, channels], values }, isTruth: false, tolerance: 0 },
  );
}

async function* tokenizerRows(
  folder: Folder,
  name: string,
  { folder: path, rows }: Manifest['tokenizers'][number],
): AsyncGenerator<ParityRow> {
  const bytes = async (file: string) => ({
    bytes: new Uint8Array(await readFile(join(folder.path, path, file))),
    file,
  });
  const config = await bytes('tokenizer_config.json');
  const tokenizer = loadTokenizer({
    tokenizerJson: await bytes('tokenizer.json'),
    tokenizerConfig: { json: readJson(config.bytes, config.file), file: config.file },
  });
  yield countRows(name, 'ids', rows, ({ text, ids }) => firstDifference(tokenizer.encode(text), ids));
  yield countRows(name, 'decoded', rows, ({ ids, decoded }) => {
    const text = tokenizer.decode(ids, { skipSpecialTokens: true });
    return text === decoded ? undefined : `: ours ${JSON.stringify(text)}, expected ${JSON.stringify(decoded)}`;
  });
}
