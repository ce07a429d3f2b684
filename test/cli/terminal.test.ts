import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { EXAMPLES, ROOT } from '../support/fixtures.js';
import { FULL } from '../support/full.js';
import { COMMAND } from './support.js';

/** Runs a command in a terminal of 40 columns, sends it a signal when the bar is there, and prints all that the terminal receives. */
const IN_TERMINAL = `
import fcntl, os, pty, re, signal, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 40, 0, 0))
    os.execvp(sys.argv[2], sys.argv[2:])
seen, wanted = b'', sys.argv[1]
while True:
    try:
        piece = os.read(fd, 65536)
    except OSError:
        break
    if not piece:
        break
    seen += piece
    if wanted and re.search(rb'[1-9][0-9]*/[0-9]+ images', seen):
        os.kill(pid, getattr(signal, wanted))
        wanted = ''
status = os.waitpid(pid, 0)[1]
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(status) & 0xff)
`;

const IMAGES = [
  ['black-round-sign-sky.jpg', 'a black round sign that says sky'],
  ['black-shirt-press.jpg', 'a black shirt that says press'],
  ['black-shirt-right.jpg', 'a black shirt that says right'],
  ['blue-mug-dream.jpg', 'a blue mug with the word dream on it'],
  ['blue-mug-juice.png', 'a blue mug with the word juice on it'],
  ['red-book-short.png', 'a red book with the title short'],
] as const;

describe('in a terminal', () => {
  before(function () {
    if (spawnSync('python3', ['-c', 'import pty']).status === 0) return;
    console.log('    skipped: needs python3 and its pty module');
    this.skip();
  });

  /** The images so many times. */
  function runInTerminal(signal: string, times = 1): { code: number | null; shown: string } {
    const { CI: _, ...env } = process.env;
    const images = Array.from({ length: times }, () => IMAGES.map(([name]) => EXAMPLES + name)).flat();
    const command = ['-c', IN_TERMINAL, signal, ...COMMAND, 'caption', ...images, '--model', 'demo'];
    const { status, stdout } = spawnSync('python3', command, { cwd: ROOT, env, encoding: 'utf8' });
    return { code: status, shown: stdout };
  }

  /** No mode is changed, and the status line is never wider than the terminal. */
  function checkModes(shown: string): void {
    assert.deepEqual(new Set(shown.match(/\u001b\[?[0-9;?]*[A-Za-z0-9]/g)), new Set(['\u001b[K']));
    const lines = [...shown.matchAll(/\r\u001b\[K([^\r\n]*)(?=\r)/g)].map(([, line]) => line!);
    const states = lines.filter((line) => /images,|loading/.test(line));
    assert.ok(states.length > 0, shown);
    for (const line of states) assert.ok(line.length < 40, line);
  }

  it('captions are whole, whatever the width; the last bar stays', () => {
    const { code, shown } = runInTerminal('');
    assert.equal(code, 0, shown);
    checkModes(shown);
    for (const [name, text] of IMAGES)
      assert.ok(shown.includes(`${EXAMPLES}${name}\t${text}\r\n`), `${name}: ${shown}`);
    assert.match(shown, /6\/6 images, [^\n]*\r\n$/);
  });

  // kill.test.ts sends all of them to a run without a terminal.
  const SIGNALS = [['SIGINT', 130] as const, ...(FULL ? [['SIGTERM', 143] as const, ['SIGHUP', 129] as const] : [])];
  for (const [signal, wanted] of SIGNALS) {
    it(`${signal}: nothing to restore, and a line that says where it stopped`, () => {
      const { code, shown } = runInTerminal(signal, 100); // more than are done before the signal comes, on any machine
      assert.equal(code, wanted, shown);
      checkModes(shown);
      assert.match(shown, /image2text: stopped: \d+ of 600 images are done\r\n$/);
    });
  }
});
