import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { jsonText, plain, showLoading, startProgress, statusLine } from '../../src/cli/terminal.js';

import { DEMO, EXAMPLES } from '../support/fixtures.js';
import { cli } from './support.js';

const CLEAR = '\r\x1b[K';

describe('the status line', () => {
  const ci = process.env['CI'];
  before(() => {
    delete process.env['CI'];
  });
  after(() => {
    if (ci !== undefined) process.env['CI'] = ci;
  });

  const terminal = (isTTY: boolean, columns = 60) => {
    const stderr = Object.assign(new PassThrough({ encoding: 'utf8' }), { isTTY, columns });
    return { stdin: new PassThrough(), stdout: new PassThrough(), stderr };
  };

  it('while a model loads: a download as a whole, then the weights; nothing is left of it', () => {
    const { stderr } = terminal(true);
    const status = statusLine(stderr);
    const onEvent = showLoading(status, { patience: 0 });
    const bytes = { loaded: 1e6, total: 4e6 };
    onEvent({ status: 'initiate', name: 'a/b', file: 'config.json' });
    onEvent({ status: 'progress', name: 'a/b', file: 'config.json', progress: 50, loaded: 1, total: 2 });
    onEvent({ status: 'progress_total', name: 'a/b', progress: 25, files: {}, ...bytes });
    onEvent({ status: 'progress_total', name: 'a/b', progress: 25.4, files: {}, ...bytes });
    onEvent({ status: 'progress', name: 'x\u001b[2J', file: 'weights', progress: 99.9, ...bytes });
    status.clear();
    assert.deepEqual((stderr.read() as string).split(CLEAR), [
      '',
      'downloading a/b: 25% of 4 MB',
      'loading x\\u001b[2J: 99% of 4 MB',
      '',
    ]);
  });

  it('is cut to the width of the terminal, wide characters counted; says nothing of a model that is there at once', () => {
    const { stderr } = terminal(true);
    const status = statusLine(stderr);
    status.show('long/'.repeat(30));
    assert.equal((stderr.read() as string).replace(CLEAR, '').length, 59);
    status.show('\u732b'.repeat(60));
    assert.equal((stderr.read() as string).replace(CLEAR, ''), '\u732b'.repeat(29));
    showLoading(status)({ status: 'progress', file: 'weights', progress: 5, loaded: 1, total: 20, name: 'demo' });
    assert.equal(stderr.read(), null);
  });

  it('a bar fits every width, and its last state stays', () => {
    for (const columns of [10, 40, 80, 200]) {
      const here = terminal(true, columns);
      const status = statusLine(here.stderr);
      const bar = startProgress(4, { status, terminal: here });
      for (let n = 0; n < 4; n++) bar.advance();
      bar.stop();
      const shown = here.stderr.read() as string;
      const states = shown.trimEnd().split(CLEAR).slice(1);
      assert.ok(
        states.every((state) => state.length < columns),
        `${columns}: ${states}`,
      );
      assert.ok(shown.endsWith('\n'));
      if (columns >= 60) assert.match(states.at(-1)!, /^█+ 4\/4 images, \S+ a second, 0:00 left$/);
      // only clearing the line: no mode of the terminal is changed
      assert.deepEqual(new Set(shown.match(/\x1b\[?[0-9;?]*[A-Za-z0-9]/g)), new Set(['\x1b[K']));
    }
  });

  it('is not there without a terminal, in CI, or with --quiet', async () => {
    const piped = terminal(false);
    statusLine(piped.stderr).show('x');
    assert.equal(piped.stderr.read(), null);
    const quiet = terminal(true);
    const status = statusLine(quiet.stderr);
    const event = { status: 'progress', file: 'weights', progress: 5, loaded: 1, total: 20, name: 'a' } as const;
    showLoading(status, { quiet: true, patience: 0 })(event);
    startProgress(9, { status, terminal: quiet }, { quiet: true }).advance();
    assert.equal(quiet.stderr.read(), null);
    process.env['CI'] = '1';
    statusLine(quiet.stderr).show('x');
    assert.equal(quiet.stderr.read(), null);
    delete process.env['CI'];
    const { stderr } = await cli(['caption', `${EXAMPLES}blue-mug-dream.jpg`, '--model', DEMO]);
    assert.equal(stderr, '');
  });
});

describe('texts on a terminal', () => {
  const ODD = 'a\u0000\u001b[2J\u009b\u200e\u202e\u2066\u2028\udce9\u{1f431}b';

  it('controls, directions and broken characters are escaped, in JSON to the same value', () => {
    assert.equal(plain(ODD), 'a\\u0000\\u001b[2J\\u009b\\u200e\\u202e\\u2066\\u2028\\udce9\u{1f431}b');
    for (const indent of [undefined, 2]) {
      const json = jsonText({ [ODD]: [ODD] }, indent);
      assert.doesNotMatch(json, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200e\u202a-\u202e\u2066-\u2069]/);
      assert.deepEqual(JSON.parse(json), { [ODD]: [ODD] });
    }
  });
});
