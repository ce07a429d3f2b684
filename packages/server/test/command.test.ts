import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { ROOT } from '../../../test/support/fixtures.js';
import { withLargeModel } from '../../../test/support/large-model.js';
import { EXIT } from '../src/command-line.js';
import { demoHost, MUG_CAPTION, mug64, postJson, SERVER } from './support.js';

/** Runs a command line in this process. */
async function command(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' };
  const into = (name: 'stdout' | 'stderr') => ({
    write(line: string) {
      text[name] += line;
    },
  });
  const { run } = await import('../src/run.js'); // as in a process of its own: mocha requires test files
  const code = await run(args, { stdout: into('stdout'), stderr: into('stderr') });
  return { code, ...text };
}

/** Starts the server as a process; resolves when it listens. */
async function started(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ child: ChildProcess; url: string }> {
  const [node, ...main] = SERVER;
  const child = spawn(node, [...main, 'serve', '--model', 'demo', '--port', '0', ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
  });
  let said = '';
  for await (const chunk of child.stderr!) {
    said += chunk;
    const url = /on (http:\S+)/.exec(said)?.[1];
    if (url !== undefined) return { child, url };
  }
  throw new Error(`the server ended: ${said}`);
}

describe('image2text-server', () => {
  it('serves until SIGTERM, and then ends with 0', async () => {
    const { child, url } = await started(['--strategy', 'greedy', '--access-log'], { IMAGE2TEXT_TOKEN: 'secret' });
    let log = '';
    child.stdout!.on('data', (chunk) => (log += chunk));
    const authorization = 'Bearer secret';
    assert.equal((await fetch(`${url}/api/tags`)).status, 401); // the token of the environment counts
    const response = await postJson(`${url}/api/generate`, { images: [mug64()] }, { headers: { authorization } });
    const lines = (await response.text()).trim().split('\n');
    assert.equal(lines.map((line) => JSON.parse(line).response).join(''), MUG_CAPTION);
    assert.ok(lines.length > 5); // greedy is the server's own: words come one by one
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    assert.match(log, /"route":"\/api\/generate","status":200/);
  });

  it('refuses weights that are too large for the memory before they are downloaded', async () => {
    (await demoHost()).model.dispose(); // starts the backend
    await withLargeModel(async ({ hub, cacheDir }) => {
      const before = process.env;
      process.env = { ...before, HF_ENDPOINT: hub.url };
      try {
        const { code, stderr } = await command('serve', '--model', 'owner/large', '--cache-dir', cacheDir);
        assert.match(stderr, /simd: memory-limit: .* fits with weights bf16/);
        assert.equal(code, EXIT.failed);
        assert.ok(hub.bytesSent < 200_000, `${hub.bytesSent} bytes were sent`);
      } finally {
        process.env = before;
      }
    });
  });

  it('shows every option, and says what is wrong with a command line', async () => {
    const help = await command('serve', '--help');
    assert.equal(help.code, EXIT.done);
    for (const flag of ['--host', '--max-requests', '--fetch', '--model', '--strategy', '--no-repeat-ngram-size'])
      assert.match(help.stdout, new RegExp(`^  ${flag} `, 'm'));
    const wrong: [string[], RegExp][] = [
      [['serve'], /name a model/],
      [['serve', '--port', '99999999'], /--port: expected a whole number from 0 to 65535/],
      [['serve', '--port', 'x'], /--port: expected a whole number/],
      [['serve', '--fetch', 'some'], /--fetch: expected "none" or "public" or "all"/],
      [['serve', '--nonsense'], /--nonsense/],
      [['serve', 'here'], /options only/],
      [['bake'], /the commands are serve and queue/],
    ];
    for (const [args, message] of wrong) {
      const { code, stdout, stderr } = await command(...args);
      assert.deepEqual([code, stdout], [EXIT.usage, ''], args.join(' '));
      assert.match(stderr, message);
    }
    const unknown = await command('serve', '--model', './no-such-folder');
    assert.equal(unknown.code, EXIT.failed);
    assert.match(unknown.stderr, /^image2text: .*no-such-folder/);
  });
});
