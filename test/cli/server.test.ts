import assert from 'node:assert/strict';
import { runServer } from '../../src/cli/program.js';

describe('image2text serve and queue', () => {
  it('say how to install their package where it is not installed', async () => {
    const missing = Object.assign(new Error("Cannot find package 'generative-image2text-server'"), {
      code: 'ERR_MODULE_NOT_FOUND',
    });
    await assert.rejects(
      runServer(['serve'], process, () => Promise.reject(missing)),
      /^Error: serve is in a package of its own: npm install generative-image2text-server$/,
    );
    const broken = Object.assign(new Error("Cannot find package 'hono'"), { code: 'ERR_MODULE_NOT_FOUND' });
    await assert.rejects(
      runServer(['serve'], process, () => Promise.reject(broken)),
      /'hono'/,
    );
  });

  it('hand their options to it, in order', async () => {
    const given: (readonly string[])[] = [];
    const run = async (args: readonly string[]) => given.push(args);
    await runServer(['queue', 'add', 'x', '--output', 'y'], process, async () => ({ run }));
    assert.deepEqual(given, [['queue', 'add', 'x', '--output', 'y']]);
  });
});
