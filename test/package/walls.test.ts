import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path/posix';
import { ROOT } from '../support/fixtures.js';

/**
 * Who may import whom (docs/architecture.md). A room is a folder of src/ or a file beside them; `node:` and package names count too.
 * Rooms that are not listed as Node's must run wherever JavaScript runs.
 */
/** Open to every room. */
const PURE = ['errors', 'load-events'];
const ROOMS: Readonly<Record<string, { readonly rooms: readonly string[]; readonly packages: readonly RegExp[] }>> = {
  errors: { rooms: [], packages: [] },
  'load-events': { rooms: [], packages: [] },
  layers: { rooms: PURE, packages: [/^@tensorflow\/tfjs-core$/] },
  checkpoint: {
    rooms: [...PURE, 'layers/param-spec'],
    packages: [/^@tensorflow\/tfjs-core$/, /^zod\/mini$/],
  },
  model: {
    rooms: [...PURE, 'layers', 'checkpoint', 'generation/types'],
    packages: [/^@tensorflow\/tfjs-core$/, /^zod\/mini$/],
  },
  tokenizer: { rooms: PURE, packages: [] },
  image: {
    rooms: PURE,
    packages: [/^@jsquash\/webp/],
  },
  generation: { rooms: PURE, packages: [] },
  image2text: {
    rooms: [...PURE, 'layers', 'model', 'checkpoint', 'tokenizer', 'image', 'generation', 'explain'],
    packages: [/^@tensorflow\/tfjs-core$/],
  },
  explain: {
    rooms: [...PURE, 'layers', 'model', 'image', 'generation/log-softmax'],
    packages: [/^@tensorflow\/tfjs-core$/, /^fast-png$/],
  },
  hub: { rooms: [...PURE, 'checkpoint/byte-source'], packages: [/^node:/] },
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

/** All rules that an import of `file` breaks. */
function faults(file: string): string[] {
  const room = roomOf(file);
  const rule = ROOMS[room];
  if (rule === undefined) return [];
  return imports(file).flatMap((name) => {
    if (!name.startsWith('.'))
      return rule.packages.some((allowed) => allowed.test(name)) ? [] : [`${file} imports ${name}`];
    const target = relative('/src', join('/src', dirname(file), name)).replace(/\.js$/, '');
    const allowed =
      roomOf(target) === room || rule.rooms.some((wanted) => target === wanted || target.startsWith(`${wanted}/`));
    return allowed ? [] : [`${file} imports ${target}`];
  });
}

describe('walls between the rooms', () => {
  it('every import stays within what its room may use', () => {
    assert.ok(sources.length > 40, `only ${sources.length} files were looked at`);
    assert.deepEqual(sources.flatMap(faults), []);
  });

  it('the command imports public doors and itself only', () => {
    const odd = sources
      .filter((file) => file.startsWith('cli/'))
      .flatMap((file) =>
        imports(file)
          .filter((name) => name.startsWith('.'))
          .map((name) => relative('/src', join('/src', dirname(file), name)).replace(/\.js$/, ''))
          .filter(
            (target) =>
              !target.startsWith('cli/') &&
              !['node', 'errors', 'parity/index', 'tools/index', 'backend/index'].includes(target),
          )
          .map((target) => `${file} imports ${target}`),
      );
    assert.deepEqual(odd, []);
  });

  it('would notice', () => {
    assert.equal(imports('layers/linear.ts').length >= 4, true);
    const match = [..."import x from 'node:fs';\nawait import('./y.js');".matchAll(IMPORT)].map((m) => m[1] ?? m[2]);
    assert.deepEqual(match, ['node:fs', './y.js']);
  });

  it('no file uses dataSync, and no tensor method is chained', () => {
    const odd = sources.filter((file) => /\.dataSync\(|\.arraySync\(/.test(readFileSync(`${ROOT}src/${file}`, 'utf8')));
    assert.deepEqual(odd, []);
  });
});
