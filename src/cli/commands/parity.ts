import type { NodeBackend } from '../../node.js';
import type { ParityRow } from '../../parity/index.js';
import type { Context } from '../context.js';
import { EXIT } from '../report.js';
import { plain } from '../terminal.js';

interface ParityFlags {
  readonly backend: NodeBackend;
  readonly only?: string;
  readonly json?: boolean;
}

/** `image2text parity`: the table on stdout, its sums on stderr; exit code 1 if any case fails, or none ran. */
export async function parityCommand(
  [directory]: readonly string[],
  flags: ParityFlags,
  { terminal: { stderr }, signal, print, tell }: Context,
): Promise<number> {
  const { quietTensorflow, startBackend } = await import('../../node.js');
  const { formatParityTable, runParity, summarizeParity } = await import('../../parity/index.js');
  quietTensorflow();
  const backend = await startBackend(flags.backend);
  const rows: ParityRow[] = [];
  for await (const row of runParity(directory!, {
    ...(flags.only === undefined ? {} : { only: flags.only }),
    signal,
  })) {
    rows.push(row);
    if (stderr.isTTY)
      stderr.write(`\r\x1b[K${plain(`${rows.length} ${row.case}`).slice(0, (stderr.columns ?? 80) - 1)}`);
  }
  if (stderr.isTTY) stderr.write('\r\x1b[K');
  await print(flags.json === true ? JSON.stringify(rows, undefined, 2) : formatParityTable(rows));
  const { passed, failed, notRun, worstRatio } = summarizeParity(rows);
  const worst = worstRatio === undefined ? '' : `; largest error ${worstRatio.toFixed(2)} times the reference's own`;
  tell(`${backend}: ${passed} passed, ${failed} failed, ${notRun} not run${worst}`);
  return failed === 0 && passed > 0 ? EXIT.done : EXIT.failed;
}
