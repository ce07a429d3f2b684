import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path/posix';
import { ROOT } from '../support/fixtures.js';

/**
 * Who may import whom (docs/architecture.md). A room is a folder of src/ or a file beside them; `node:` and package names count too.
 * Rooms that are not listed as Node's must run wherever JavaScript runs.
 */
/** Open to every room. */
const PURE = ['errors', 'load-events', 'crc32', 'file-signature', 'options', 'event-loop'];
const ROOMS: Readonly<Record<string, { readonly rooms: readonly string[]; readonly packages: readonly RegExp[] }>> = {
  errors: { rooms: [], packages: [] },
  'load-events': { rooms: [], packages: [] },
  crc32: { rooms: [], packages: [] },
  'file-signature': { rooms: [], packages: [] },
  options: { rooms: ['errors'], packages: [] },
  'event-loop': { rooms: [], packages: [] },
  layers: { rooms: PURE, packages: [/^@tensorflow\/tfjs-core$/] },
  checkpoint: {
    rooms: [...PURE, 'layers/param-spec'],
    packages: [/^@tensorflow\/tfjs-core$/, /^zod\/mini$/, /^fflate$/],
  },
  model: {
    rooms: [...PURE, 'layers', 'checkpoint', 'generation/session'],
    packages: [/^@tensorflow\/tfjs-core$/, /^zod\/mini$/],
  },
  tokenizer: { rooms: PURE, packages: [] },
  image: {
    rooms: PURE,
    packages: [/^@jsquash\/webp/],
  },
  generation: { rooms: PURE, packages: [/^zod\/mini$/] },
  image2text: {
    rooms: [...PURE, 'layers', 'model', 'checkpoint', 'tokenizer', 'image', 'generation', 'explain'],
    packages: [/^@tensorflow\/tfjs-core$/],
  },
  explain: {
    rooms: [...PURE, 'layers', 'model', 'image', 'generation/log-softmax'],
    packages: [/^@tensorflow\/tfjs-core$/, /^fast-png$/],
  },
  hub: { rooms: [...PURE, 'checkpoint/byte-source', 'platform/write-whole'], packages: [/^node:/] },
  backend: { rooms: [...PURE], packages: [/^@tensorflow\/tfjs-core$/, /^node:/] },
  pipeline: { rooms: [...PURE, 'image2text', 'generation', 'tokenizer', 'checkpoint/byte-source'], packages: [] },
  index: {
    rooms: [
      ...PURE,
      'layers',
      'model',
      'checkpoint',
      'tokenizer',
      'image',
      'generation',
      'explain',
      'image2text',
      'pipeline',
    ],
    packages: [],
  },
};

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\b[^'";]*?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)\s*import\s*['"]([^'"]+)['"]/g;

const sources = readdirSync(`${ROOT}src`, { recursive: true, encoding: 'utf8' })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => file.endsWith('.ts') && !file.startsWith('backend/assembly/'));

const imports = (file: string): string[] =>
  [...readFileSync(`${ROOT}src/${file}`, 'utf8').matchAll(IMPORT)].map((match) => match[1] ?? match[2] ?? match[3]!);

/** The room of a file below src: its folder, or its own name. */
const roomOf = (file: string): string => (file.includes('/') ? file.split('/')[0]! : file.replace(/\.ts$/, ''));

/** Rooms and doors of a platform: they may use every room but the command. */
const PLATFORM = ['platform', 'inspect', 'parity', 'tools', 'node', 'browser'];
const EVERYTHING = { rooms: [...PURE, ...Object.keys(ROOMS), ...PLATFORM], packages: [/^/] };

/** All rules that the imports of `file` break. */
function faults(file: string, names = imports(file)): string[] {
  const room = roomOf(file);
  if (room === 'cli') return []; // a test of its own
  const code = ROOMS[room] ?? (PLATFORM.includes(room) ? EVERYTHING : undefined);
  if (code === undefined) return [`${file} is in a room that has no rule`];
  return names.flatMap((name) => {
    if (!name.startsWith('.'))
      return code.packages.some((allowed) => allowed.test(name)) ? [] : [`${file} imports ${name}`];
    const target = relative('/src', join('/src', dirname(file), name)).replace(/\.js$/, '');
    const allowed =
      roomOf(target) === room || code.rooms.some((wanted) => target === wanted || target.startsWith(`${wanted}/`));
    return allowed ? [] : [`${file} imports ${target}`];
  });
}

describe('walls between the rooms', () => {
  it('every import stays within what its room may use', () => {
    assert.ok(sources.length > 40, `only ${sources.length} files were looked at`);
    assert.deepEqual(
      sources.flatMap((file) => faults(file)),
      [],
    );
  });

  it('the command imports entry points, option tables and few files of the platform only', () => {
    const odd = sources
      .filter((file) => file.startsWith('cli/'))
      .flatMap((file) =>
        imports(file)
          .filter((name) => name.startsWith('.'))
          .map((name) => relative('/src', join('/src', dirname(file), name)).replace(/\.js$/, ''))
          .filter(
            (target) =>
              !target.startsWith('cli/') &&
              ![
                'node',
                'errors',
                'options',
                'parity/index',
                'tools/index',
                'backend/index',
                'options',
                'generation/options',
                'image/identify',
                'hub/lock',
                'platform/write-whole',
              ].includes(target),
          )
          .map((target) => `${file} imports ${target}`),
      );
    assert.deepEqual(odd, []);
  });

  it('would notice', () => {
    assert.equal(imports('layers/linear.ts').length >= 4, true);
    const match = [..."import x from 'node:fs';\nawait import('./y.js');".matchAll(IMPORT)].map((m) => m[1] ?? m[2]);
    assert.deepEqual(match, ['node:fs', './y.js']);
    assert.deepEqual(faults('layers/x.ts', ['../model/git.js', 'node:fs', './linear.js', '../errors.js']), [
      'layers/x.ts imports model/git',
      'layers/x.ts imports node:fs',
    ]);
    assert.deepEqual(faults('parity/x.ts', ['../cli/program.js', 'node:fs']), ['parity/x.ts imports cli/program']);
    assert.deepEqual(faults('attic/x.ts', []), ['attic/x.ts is in a room that has no rule']);
  });

  it('no file uses dataSync, and no tensor method is chained', () => {
    const odd = sources.filter((file) => /\.dataSync\(|\.arraySync\(/.test(readFileSync(`${ROOT}src/${file}`, 'utf8')));
    assert.deepEqual(odd, []);
  });
});
