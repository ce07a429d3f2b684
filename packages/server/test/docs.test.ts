import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { ROOT } from '../../../test/support/fixtures.js';
import { skipWithout } from '../../../test/support/skip.js';
import { optionRows } from '../src/command-line.js';
import { serverOptions } from '../src/options.js';
import { withServer } from './support.js';

const page = readFileSync(`${ROOT}docs/server.md`, 'utf8');
const ADDRESS = 'http://127.0.0.1:11434';
const run = promisify(execFile);

/** A pattern of what a page shows, in which `…` is anything. */
const shown = (text: string): RegExp =>
  new RegExp(
    `^${text
      .split('…')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('[\\s\\S]*')}$`,
  );

describe('docs/server.md', () => {
  it('has the table of options as they are declared', () => {
    const rows = optionRows([[serverOptions, 'serve']]);
    const table = ['| option | what | default |', '|---|---|---|', ...rows].join('\n');
    const between = /<!-- options: begin -->\n([\s\S]*?)\n?<!-- options: end -->/.exec(page)![1]!;
    if (process.env['IMAGE2TEXT_WRITE'] === '1')
      writeFileSync(
        `${ROOT}docs/server.md`,
        page.replace(
          between === '' ? '<!-- options: begin -->\n' : between,
          between === '' ? `<!-- options: begin -->\n${table}\n` : table,
        ),
      );
    else assert.equal(between, table);
  });

  it('shows what curl prints', async function () {
    await run('curl', ['--version']).catch(() => skipWithout(this, 'curl', 'apt-get install curl'));
    const blocks = [...page.matchAll(/```console\n([\s\S]*?)```/g)].map(([, text]) => text!);
    const examples = blocks.flatMap((block) =>
      block
        .split(/^\$ /m)
        .filter((one) => one.startsWith('curl'))
        .map((one) => [one.slice(0, one.indexOf('\n')), one.slice(one.indexOf('\n') + 1).trim()] as const),
    );
    assert.ok(examples.length >= 6, `${examples.length} examples`);
    await withServer({}, async (url) => {
      for (const [command, output] of examples) {
        const { stdout } = await run('bash', ['-c', command.replaceAll(ADDRESS, url)], { cwd: ROOT });
        assert.match(stdout.trim(), shown(output), command);
      }
    });
  });

  it('has examples of clients that print what it says', async () => {
    const examples = [...page.matchAll(/```javascript\n([\s\S]*?)```/g)].map(([, text]) => text!);
    assert.equal(examples.length, 2);
    await withServer({}, async (url) => {
      for (const [n, code] of examples.entries()) {
        const file = `${ROOT}packages/server/test/.example-${n}.mjs`;
        writeFileSync(file, code.replaceAll(ADDRESS, url));
        try {
          const { stdout } = await run(process.execPath, [file], { cwd: ROOT });
          assert.equal(stdout.trim(), /^\/\/ (.*)$/m.exec(code)![1], pathToFileURL(file).href);
        } finally {
          rmSync(file);
        }
      }
    });
  });
});
