// Runs the tests of the whole repository: folders of them in processes of their own, one more at once than there are cores, for some wait (four
// at most). The output of each is printed when it has ended, and one that fails makes the command fail.
//
//   node scripts/test.mjs [--full] [--with SCRIPT] [--without WORD ...] [WORD ...]
//
// --full runs what `npm test` leaves out instead: *.full.test.ts, and files that have more cases there (fuzzers). --with runs an npm script
// beside the tests. A word chooses the files whose path has it; after --without, all others.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const { values, positionals: words } = parseArgs({
  allowPositionals: true,
  options: {
    full: { type: 'boolean', default: false },
    with: { type: 'string', multiple: true, default: [] },
    without: { type: 'string', multiple: true, default: [] },
  },
});
const { full } = values;

/** Folders that take a process each, the slowest first so that all end at about the same time; `*` is all others, which share one. */
const FOLDERS = [
  ...['test/*', 'packages/tfjs-backend-simd/test', 'test/cli', 'packages/server/test', 'test/training'],
  ...['test/image2text', 'test/browser', 'test/simd', 'test/parity', 'test/package', 'test/image'],
  ...['test/platform', 'test/tools', 'test/web', 'test/checkpoint', 'test/hub', 'test/tokenizer'],
];

/** Files that have more cases there. */
const MORE = /\b(FULL|FUZZ_CASES|itInFull)\b/;
function runs(file) {
  const named = (word) => file.includes(word);
  if ((words.length > 0 && !words.some(named)) || values.without.some(named)) return false;
  const only = file.endsWith('.full.test.ts');
  return full ? only || MORE.test(readFileSync(join(root, file), 'utf8')) : !only;
}

function testFiles() {
  const groups = new Map(FOLDERS.map((folder) => [folder, []]));
  for (const base of ['test', 'packages/tfjs-backend-simd/test', 'packages/server/test']) {
    for (const name of readdirSync(join(root, base), { recursive: true }).sort()) {
      const file = join(base, name);
      if (!file.endsWith('.test.ts') || !runs(file)) continue;
      groups.get(FOLDERS.find((folder) => file.startsWith(`${folder}/`)) ?? 'test/*').push(file);
    }
  }
  return [...groups].filter(([, files]) => files.length > 0);
}

const jobs = [
  ...values.with.map((script) => ({ name: `npm run ${script}`, command: ['npm', 'run', '-s', script] })),
  ...testFiles().map(([name, files]) => ({
    name,
    command: [
      process.execPath,
      join(root, 'node_modules/mocha/bin/mocha.js'),
      ...(full ? ['--timeout', '3600000'] : []),
      ...files,
    ],
  })),
];

function run({ name, command: [program, ...args] }) {
  const started = performance.now();
  const env = { ...process.env, ...(full && { IMAGE2TEXT_FULL: '1' }) };
  const child = spawn(program, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => output.push(chunk));
  return new Promise((resolve) => {
    child.on('error', (error) => output.push(Buffer.from(`${error}\n`)));
    child.on('close', (code, signal) => {
      const seconds = Math.round((performance.now() - started) / 1000);
      process.stdout.write(`\n== ${name}: ${code === 0 ? 'passed' : `FAILED (${signal ?? code})`} in ${seconds} s\n`);
      process.stdout.write(Buffer.concat(output));
      resolve(code === 0 ? [] : [name]);
    });
  });
}

let next = 0;
const worker = async () => {
  const failed = [];
  while (next < jobs.length) failed.push(...(await run(jobs[next++])));
  return failed;
};
const started = performance.now();
const workers = Math.min(4, availableParallelism() + 1, jobs.length);
const failed = (await Promise.all(Array.from({ length: workers }, worker))).flat();
console.log(`\n${jobs.length} parts in ${Math.round((performance.now() - started) / 1000)} s, ${workers} at once`);
if (jobs.length === 0 || failed.length > 0) {
  console.log(failed.length > 0 ? `failed: ${failed.join(', ')}` : 'no test was found');
  process.exitCode = 1;
}
