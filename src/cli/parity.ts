import type { NodeBackend } from '../node.js';
import type { ParityRow } from '../parity/index.js';
import type { CliCommand, Context } from './context.js';
import { EXIT } from './context.js';
import { addBackend, addExamples, addNote } from './options.js';
import { jsonText } from './terminal.js';

interface ParityFlags {
  readonly backend: NodeBackend;
  readonly only?: string;
  readonly json?: boolean;
}

/** `image2text parity`: the table on stdout, its sums on stderr; exit code 1 if any case fails, or none ran. */
export const parityCommand: CliCommand = {
  name: 'parity',
  describe(command) {
    command
      .description('Compare this implementation with reference numbers: finds the cases below a folder and runs each.')
      .argument('<dir>', 'folder with cases (docs/parity.md describes the layouts)')
      .option('--only <pattern>', 'only cases whose path matches: text, or a glob with *')
      .option('--json', 'a JSON array of rows');
    addBackend(command);
    addExamples(command, 'image2text parity reference/', 'image2text parity reference/ --backend cpu --only "tiny-*"');
    addNote(command, 'Exit code 1 if any case fails. A case that cannot be run is listed as not run, never as passed.');
  },
  run,
};

async function run(
  [directory]: readonly string[],
  flags: ParityFlags,
  { status, signal, stdout, stderr }: Context,
): Promise<number> {
  const { quietTensorflow, startBackend } = await import('../node.js');
  const { formatParityTable, runParity, summarizeParity } = await import('../parity/index.js');
  quietTensorflow();
  const backend = await startBackend(flags.backend);
  const rows: ParityRow[] = [];
  for await (const row of runParity(directory!, {
    ...(flags.only === undefined ? {} : { only: flags.only }),
    signal,
  })) {
    rows.push(row);
    status.show(`${rows.length} ${row.case}`);
  }
  status.clear();
  await stdout(flags.json === true ? jsonText(rows, 2) : formatParityTable(rows));
  const { passed, failed, notRun, worstRatio } = summarizeParity(rows);
  const worst = worstRatio === undefined ? '' : `; largest error ${worstRatio.toFixed(2)} times the reference's own`;
  stderr(`${backend}: ${passed} passed, ${failed} failed, ${notRun} not run${worst}`);
  return failed === 0 && passed > 0 ? EXIT.done : EXIT.failed;
}
