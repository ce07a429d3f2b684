import { Image2TextError, WeightError } from '../../errors.js';
import type { Inspection } from '../../node.js';
import type { Context } from '../context.js';
import { EXIT } from '../report.js';
import { plain } from '../terminal.js';

/** `image2text inspect`. Exit codes with --check: 0 would load, 1 illegal, 3 legal but unsupported. */
export async function inspectCommand(
  [file]: readonly string[],
  flags: { readonly check?: boolean; readonly json?: boolean },
  context: Context,
): Promise<number> {
  const { inspectFile } = await import('../../node.js');
  try {
    const found = await inspectFile(file!, { check: flags.check ?? false });
    await context.print(
      flags.json === true ? JSON.stringify(found, undefined, 2) : describe(found, flags.check ?? false),
    );
    for (const warning of found.warnings ?? []) context.tell(`image2text: warning: ${warning}`);
    return EXIT.done;
  } catch (error) {
    if (!(error instanceof Image2TextError)) throw error;
    context.report(error);
    for (const line of faultLines(error)) context.tell(line);
    return error.unsupported ? EXIT.unsupported : EXIT.failed;
  }
}

/** Every tensor that does not fit: the message names the first two. */
const faultLines = (error: Image2TextError): readonly string[] =>
  error instanceof WeightError ? error.report.split('\n').slice(1) : [];

function describe({ file, kind, facts, tensors, metadata }: Inspection, checked: boolean): string {
  const entries = [
    ...Object.entries(facts),
    ...Object.entries(metadata ?? {}).map(([key, value]) => [`metadata ${key}`, value]),
  ];
  const wide = Math.max(0, ...entries.map(([key]) => String(key).length));
  const widest = Math.max(0, ...(tensors ?? []).map(({ name }) => name.length));
  return [
    `${plain(file)}: ${kind}${checked ? ', would load' : ''}`,
    ...entries.map(([key, value]) => `  ${String(key).padEnd(wide)}  ${plain(String(value))}`),
    ...(tensors ?? []).map(
      ({ name, dtype, shape, bytes }) =>
        `  ${plain(name).padEnd(widest)}  ${dtype.padEnd(4)}  [${shape.join(', ')}]  ${bytes} bytes`,
    ),
  ].join('\n');
}
