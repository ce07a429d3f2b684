import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path/posix';
import ts from 'typescript';
import { ROOT } from '../support/fixtures.js';
import { itInFull } from '../support/full.js';

/**
 * Who may import whom (docs/architecture.md). A module is a folder of src/ or a file beside them; `node:` and package names count too.
 * Modules that are not listed as Node's must run wherever JavaScript runs.
 */
/** Open to every module. */
const PURE = ['errors', 'load-events', 'crc32', 'file-signature', 'options', 'event-loop'];
const MODULES: Readonly<Record<string, { readonly modules: readonly string[]; readonly packages: readonly RegExp[] }>> =
  {
    errors: { modules: [], packages: [] },
    'load-events': { modules: [], packages: [] },
    crc32: { modules: [], packages: [] },
    'file-signature': { modules: [], packages: [] },
    options: { modules: ['errors'], packages: [] },
    'event-loop': { modules: [], packages: [] },
    layers: { modules: PURE, packages: [/^@tensorflow\/tfjs-core$/] },
    checkpoint: {
      modules: [...PURE, 'layers/param-spec'],
      packages: [/^@tensorflow\/tfjs-core$/, /^zod\/mini$/, /^fflate$/, /^tfjs-backend-simd$/],
    },
    model: {
      modules: [...PURE, 'layers', 'checkpoint', 'generation/session'],
      packages: [/^@tensorflow\/tfjs-core$/, /^zod\/mini$/],
    },
    tokenizer: { modules: PURE, packages: [/^zod\/mini$/] },
    metrics: { modules: PURE, packages: [/^zod\/mini$/] },
    image: {
      modules: PURE,
      packages: [/^@jsquash\/(webp|avif)/, /^tiff$/, /^zod\/mini$/],
    },
    generation: { modules: PURE, packages: [/^zod\/mini$/] },
    webgpu: {
      modules: [...PURE, 'layers/fused-kernel', 'checkpoint/encode-tensor'],
      packages: [/^@tensorflow\/tfjs-core$/, /^tfjs-backend-simd$/],
    },
    image2text: {
      modules: [...PURE, 'webgpu', 'layers', 'model', 'checkpoint', 'tokenizer', 'image', 'generation', 'explain'],
      packages: [/^@tensorflow\/tfjs-core$/],
    },
    training: {
      modules: [
        ...PURE,
        ...[
          'layers',
          'model',
          'checkpoint',
          'tokenizer',
          'image',
          'generation',
          'explain/overlay',
          'image2text',
          'metrics',
        ],
      ],
      packages: [/^@tensorflow\/tfjs-core$/, /^zod\/mini$/],
    },
    explain: {
      modules: [...PURE, 'layers', 'model', 'image', 'generation'],
      packages: [/^@tensorflow\/tfjs-core$/, /^fast-png$/],
    },
    hub: { modules: [...PURE, 'checkpoint/byte-source', 'platform/write-whole'], packages: [/^node:/, /^zod\/mini$/] },
    pipeline: {
      modules: [
        ...PURE,
        'image2text',
        'generation',
        'tokenizer',
        'checkpoint/byte-source',
        'image/raw-image',
        'image/resize',
      ],
      packages: [],
    },
    worker: {
      modules: [...PURE, 'image2text', 'explain', 'model', 'training', 'checkpoint/byte-source', 'platform/browser'],
      packages: [],
    },
    index: {
      modules: [
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
      packages: [/^tfjs-backend-simd$/],
    },
  };

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\b[^'";]*?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)\s*import\s*['"]([^'"]+)['"]/g;

const sources = readdirSync(`${ROOT}src`, { recursive: true, encoding: 'utf8' })
  .map((file) => file.replaceAll('\\', '/'))
  .filter((file) => file.endsWith('.ts'));

const imports = (file: string): string[] =>
  [...readFileSync(`${ROOT}src/${file}`, 'utf8').matchAll(IMPORT)].map((match) => match[1] ?? match[2] ?? match[3]!);

/** The module of a file below src: its folder, or its own name. */
const moduleOf = (file: string): string => (file.includes('/') ? file.split('/')[0]! : file.replace(/\.ts$/, ''));

/** Modules and entry points of a platform: they may use every module but the command. */
const PLATFORM = ['platform', 'inspect', 'parity', 'tools', 'node', 'browser'];
const EVERYTHING = { modules: [...PURE, ...Object.keys(MODULES), ...PLATFORM], packages: [/^/] };

/** All rules that the imports of `file` break. */
function faults(file: string, names = imports(file)): string[] {
  const module = moduleOf(file);
  if (module === 'cli') return []; // a test of its own
  const code = MODULES[module] ?? (PLATFORM.includes(module) ? EVERYTHING : undefined);
  if (code === undefined) return [`${file} is in a module that has no rule`];
  return names.flatMap((name) => {
    if (!name.startsWith('.'))
      return code.packages.some((allowed) => allowed.test(name)) ? [] : [`${file} imports ${name}`];
    const target = relative('/src', join('/src', dirname(file), name)).replace(/\.js$/, '');
    const allowed =
      moduleOf(target) === module ||
      code.modules.some((wanted) => target === wanted || target.startsWith(`${wanted}/`));
    return allowed ? [] : [`${file} imports ${target}`];
  });
}

describe('import rules', () => {
  it('every import stays within what its module may use', () => {
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
                'training/index',
                'training/options',
                'metrics/index',
                'checkpoint/byte-source',
                'checkpoint/stored-tensor',
                'image2text/load', // generation_config.json is read before the weights are
                'platform/open-model',
                'platform/node-files',
                'platform/node-videos',
                'generation/options',
                'file-signature',
                'image/decode', // a thread that reads images loads nothing else
                'image/preprocess',
                'image/image-file',
                'image/image-options',
                'hub/environment',
                'hub/cache',
                'platform/write-whole',
                'platform/tables',
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
    assert.deepEqual(faults('nowhere/x.ts', []), ['nowhere/x.ts is in a module that has no rule']);
  });

  it('there is no import circle, types included', () => {
    assert.deepEqual(circles(graph()), []);
    assert.deepEqual(
      circles(
        new Map([
          ['a', ['b']],
          ['b', ['c']],
          ['c', ['b']],
          ['d', ['a']],
        ]),
      ),
      [['b', 'c']],
    );
  });

  it('the core takes types from tfjs-backend-simd, and no code', () => {
    const users = sources.filter((file) => imports(file).includes('tfjs-backend-simd'));
    const code = users.filter((file) =>
      /(?:^|\n)(?:import|export) (?!type )[^;]*'tfjs-backend-simd'|import\('tfjs-backend-simd'\)/.test(
        readFileSync(`${ROOT}src/${file}`, 'utf8'),
      ),
    );
    assert.ok(users.includes('checkpoint/load-params.ts'));
    assert.deepEqual(code, ['platform/start-backend.ts']);
  });

  // types of all sources
  itInFull('no tensor method is chained, and no tensor is read synchronously', () => {
    const sample = [
      "import { type Tensor, type Tensor2D, zeros } from '@tensorflow/tfjs-core';",
      'export const f = (x: Tensor2D): Tensor => x.add(x);',
      'export const g = async (x: Tensor | undefined) => (await x?.data(), x?.dataSync());',
      'export const h = () => zeros([2]).reshape([1, 2]);',
      'export const i = (x: { add(y: number): void }, all: Set<Tensor>) => (x.add(1), all.add(zeros([1])));',
    ].join('\n');
    assert.deepEqual(tensorCalls(sample), ['sample.ts:2 add', 'sample.ts:3 dataSync', 'sample.ts:4 reshape']);
  });
});

/** Methods of a tensor that read, share or free it; whatever computes is a function of tfjs-core, so that bundles hold only what is used. */
const TENSOR_METHODS = ['data', 'bytes', 'dispose', 'clone'];

/** Calls of other methods on values whose type is a tensor, in all of src and in `sample`; those of src are failures. */
function tensorCalls(sample: string): string[] {
  const config = ts.readConfigFile(`${ROOT}tsconfig.json`, ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config.config, ts.sys, ROOT);
  const host = ts.createCompilerHost(options);
  const virtual = `${ROOT}src/sample.ts`;
  const { fileExists, getSourceFile } = host;
  host.fileExists = (file) => file === virtual || fileExists(file);
  host.getSourceFile = (file, ...rest) =>
    file === virtual ? ts.createSourceFile(file, sample, ts.ScriptTarget.Latest) : getSourceFile(file, ...rest);
  const files = sources.map((file) => `${ROOT}src/${file}`);
  const program = ts.createProgram([...files, virtual], options, host);
  const checker = program.getTypeChecker();
  const isTensor = (type: ts.Type): boolean =>
    type.isUnion() || type.isIntersection()
      ? type.types.some(isTensor)
      : ['Tensor', 'Variable'].includes(type.getSymbol()?.name ?? '') && type.getProperty('dataSync') !== undefined;
  const found: string[] = [];
  for (const name of [...files, virtual]) {
    const source = program.getSourceFile(name)!;
    const visit = (node: ts.Node): void => {
      if (ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression)) {
        const { expression, name: method } = node.expression;
        if (!TENSOR_METHODS.includes(method.text) && isTensor(checker.getTypeAtLocation(expression))) {
          const line = source.getLineAndCharacterOfPosition(method.getStart(source)).line + 1;
          found.push(`${name.slice(`${ROOT}src/`.length)}:${line} ${method.text}`);
        }
      }
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return found;
}

/** Every file below src with the files that it imports. */
function graph(): ReadonlyMap<string, readonly string[]> {
  const known = new Set(sources);
  return new Map(
    sources.map((file) => [
      file,
      imports(file)
        .filter((name) => name.startsWith('.'))
        .map((name) => relative('/src', join('/src', dirname(file), name)).replace(/\.js$/, '.ts'))
        .filter((target) => known.has(target)),
    ]),
  );
}

/** Strongly connected components of more than one file (Tarjan, 1972). */
function circles(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (file: string): void => {
    index.set(file, index.size);
    low.set(file, index.get(file)!);
    stack.push(file);
    for (const target of imports.get(file) ?? []) {
      if (!index.has(target)) {
        visit(target);
        low.set(file, Math.min(low.get(file)!, low.get(target)!));
      } else if (stack.includes(target)) low.set(file, Math.min(low.get(file)!, index.get(target)!));
    }
    if (low.get(file) !== index.get(file)) return;
    const component = stack.splice(stack.indexOf(file));
    if (component.length > 1) found.push(component.sort());
  };
  for (const file of imports.keys()) if (!index.has(file)) visit(file);
  return found;
}
