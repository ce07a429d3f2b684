import { InvalidArgumentError } from 'commander';
import type { BackendHealth, DoctorReport } from '../tools/index.js';
import type { CliCommand, Context } from './context.js';
import { EXIT } from './context.js';
import { addExamples, addNote } from './options.js';
import { jsonText, plain } from './terminal.js';

/** `image2text doctor`. */
export const doctorCommand: CliCommand = {
  name: 'doctor',
  describe(command) {
    command
      .description(
        'Look at everything that this program needs from the machine, try every backend, and say what to do.',
      )
      .option('--json', 'one JSON object')
      .option('--timeout <seconds>', 'how long each backend may take (default 2.5)', seconds);
    addExamples(command, 'image2text doctor', 'image2text doctor --json > report.json');
    addNote(command, 'Exit code 0 if the default backend works, else 1.');
  },
  run,
};

/** `image2text doctor`. */
async function run(
  _names: readonly string[],
  flags: { readonly json?: boolean; readonly timeout?: number },
  context: Context,
): Promise<number> {
  const { megabytes, runDoctor } = await import('../tools/index.js');
  const { signal, status } = context;
  const report = await runDoctor({
    signal,
    timeoutMs: flags.timeout && flags.timeout * 1000,
    onBackend: (name) => status.show(`trying ${name}`),
  });
  status.clear();
  signal.throwIfAborted();
  await context.stdout(flags.json === true ? jsonText(report, 2) : describe(report, megabytes));
  return report.healthy ? EXIT.done : EXIT.failed;
}

function seconds(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 3600) return value;
  throw new InvalidArgumentError('expected a number of seconds from 0 to 3600.');
}

function describe(report: DoctorReport, megabytes: (bytes: number) => string): string {
  const { machine, backends, defaultBackend, cache, hub, environment, ffmpeg, problems } = report;
  const { node, platform, cores, memory, freeMemory } = machine;
  const free = cache.freeDisk === undefined ? '' : `, ${megabytes(cache.freeDisk)} free`;
  const rows: [string, string][] = [
    ['Node', `${node}, ${platform}`],
    ['machine', `${cores} cores, ${megabytes(memory)} of memory, ${megabytes(freeMemory)} free`],
    ['cache', `${cache.folder}: ${cache.models} models, ${megabytes(cache.bytes)}${free}`],
    ['Hub', [hub.endpoint, hub.state, hub.detail].filter(Boolean).join(': ')],
    ['ffmpeg', ffmpeg ?? 'not installed'],
    ...Object.entries(environment).map(([name, value]): [string, string] => [name, value]),
    ...backends.map((backend): [string, string] => [`backend ${backend.name}`, describeBackend(backend)]),
    ['default backend', defaultBackend ?? 'none works'],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return [
    ...rows.map(([name, text]) => `${name.padEnd(width)}  ${plain(text)}`),
    '',
    ...(problems.length === 0 ? ['No problem found.'] : ['To be looked at:']),
    ...problems.map(({ what, advice }) => plain(`- ${what}: ${advice}`)),
  ].join('\n');
}

function describeBackend({ state, test, detail }: BackendHealth): string {
  const note = detail === undefined ? '' : `: ${detail}`;
  if (state === 'missing') return `not installed${note}`;
  if (state === 'unfinished') return `not known${note}; --timeout waits longer`;
  if (test === undefined) return `does not work${note}`;
  const result = `${test.largestDifference.toExponential(1)} from cpu, ${test.milliseconds.toFixed(0)} ms for a tiny model`;
  return `${state === 'works' ? 'works' : 'computes wrongly'}, ${result}${note}`;
}
