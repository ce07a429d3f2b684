import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { showLoading } from '../../src/cli/loading.js';
import { DEMO, EXAMPLES } from '../support/fixtures.js';
import { cli } from './support.js';

describe('the line while a model loads', () => {
  const ci = process.env['CI'];
  before(() => {
    delete process.env['CI'];
  });
  after(() => {
    if (ci !== undefined) process.env['CI'] = ci;
  });

  const terminal = (isTTY: boolean) => {
    const stderr = Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY, columns: 60 });
    return { stdin: new PassThrough(), stdout: new PassThrough(), stderr };
  };

  it('a download as a whole, then the weights; nothing is left of it', () => {
    const screen = terminal(true);
    const line = showLoading({ terminal: screen }, { patience: 0 })!;
    const bytes = { loaded: 1e6, total: 4e6 };
    line.hear({ status: 'initiate', name: 'a/b', file: 'config.json' });
    line.hear({ status: 'progress', name: 'a/b', file: 'config.json', progress: 50, loaded: 1, total: 2 });
    line.hear({ status: 'progress_total', name: 'a/b', progress: 25, files: {}, ...bytes });
    line.hear({ status: 'progress_total', name: 'a/b', progress: 25.4, files: {}, ...bytes });
    line.hear({ status: 'progress', name: 'x\u001b[2J', file: 'weights', progress: 99.9, ...bytes });
    line.end();
    assert.deepEqual((screen.stderr.read() as string).split('\r\x1b[K'), [
      '',
      'downloading a/b: 25% of 4 MB',
      'loading x\\u001b[2J: 99% of 4 MB',
      '',
    ]);
  });

  it('never wraps; says nothing of a model that is there at once', () => {
    const screen = terminal(true);
    const event = { status: 'progress', file: 'weights', progress: 5, loaded: 1, total: 20 } as const;
    showLoading({ terminal: screen }, { patience: 0 })!.hear({ ...event, name: 'long/'.repeat(30) });
    assert.equal((screen.stderr.read() as string).replace('\r\x1b[K', '').length, 59);
    const quick = showLoading({ terminal: screen })!;
    quick.hear({ ...event, name: 'demo' });
    quick.end();
    assert.equal(screen.stderr.read(), null);
  });

  it('is not there without a terminal, in CI, or with --quiet', async () => {
    assert.equal(showLoading({ terminal: terminal(false) }), undefined);
    assert.equal(showLoading({ terminal: terminal(true) }, { quiet: true }), undefined);
    process.env['CI'] = '1';
    assert.equal(showLoading({ terminal: terminal(true) }), undefined);
    delete process.env['CI'];
    const { stderr } = await cli(['caption', `${EXAMPLES}blue-mug-dream.jpg`, '--model', DEMO]);
    assert.equal(stderr, '');
  });
});
