import { WeightError, type WeightFault } from '../errors.js';
import type { TensorSpec } from '../layers/param-spec.js';
import { isWeight } from './dtype.js';
import { nameOf, type StoredTensor, type TensorMap } from './stored-tensor.js';

/** A parameter that the model needs. */
export interface NeededParam {
  readonly name: string;
  readonly spec: TensorSpec;
}

export interface CompareOptions {
  readonly label: string;
  /** Tensors of these names may be left over (buffers such as position_ids). */
  readonly ignore: readonly RegExp[];
  /** Guesses the cause from all faults, for the last line of the report. */
  readonly hint?: ((faults: readonly WeightFault[]) => string | undefined) | undefined;
}

/**
 * Compares what a checkpoint holds with what a model needs, by the headers alone. Throws one WeightError for all that is missing,
 * misshapen, left over (`weights-do-not-fit`) or of a dtype that cannot become a weight (`unsupported-dtype`).
 */
export function compareWeights(needed: readonly NeededParam[], stored: TensorMap, options: CompareOptions): void {
  const faults = findFaults(needed, stored, options.ignore);
  const unreadable = needed
    .map(({ name }) => stored.get(name))
    .filter((tensor) => tensor !== undefined && !isWeight(tensor)) as StoredTensor[];
  if (faults.length === 0 && unreadable.length === 0) return;

  const hint = options.hint?.(faults);
  const detail = [
    summary('missing', faults),
    summary('misshapen', faults),
    summary('unexpected', faults),
    unreadable.length > 0 ? `${unreadable.length} of unsupported dtype ${some(unreadable.map(dtypeText))}` : '',
    hint ? `hint: ${hint}` : '',
  ];
  throw new WeightError({
    file: options.label,
    code: faults.length > 0 ? 'weights-do-not-fit' : 'unsupported-dtype',
    detail: detail.filter((part) => part !== '').join('; '),
    unsupported: faults.length === 0,
    faults,
    report: report(options.label, faults, unreadable, hint),
  });
}

function findFaults(needed: readonly NeededParam[], stored: TensorMap, ignore: readonly RegExp[]): WeightFault[] {
  const faults: WeightFault[] = [];
  const known = new Set<string>();
  for (const { name, spec } of needed) {
    known.add(name);
    const tensor = stored.get(name);
    if (!tensor) faults.push({ kind: 'missing', name, expected: spec.shape });
    else if (!sameShape(tensor.shape, spec.shape)) {
      faults.push({ kind: 'misshapen', name, expected: spec.shape, found: tensor.shape });
    }
  }
  for (const [name, tensor] of stored) {
    if (known.has(name) || ignore.some((pattern) => pattern.test(name))) continue;
    faults.push({ kind: 'unexpected', name, found: tensor.shape });
  }
  return faults;
}

const sameShape = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((size, axis) => size === b[axis]);
const shapeText = (shape: readonly number[] = []) => `[${shape.join(', ')}]`;
const dtypeText = ({ name, dtype }: StoredTensor) => `${nameOf(name)} ${dtype}`;
const some = (items: readonly string[]) => `(${items.slice(0, 2).join(', ')}${items.length > 2 ? ', ...' : ''})`;

function summary(kind: WeightFault['kind'], faults: readonly WeightFault[]): string {
  const names = faults.filter((fault) => fault.kind === kind).map((fault) => nameOf(fault.name));
  return names.length === 0 ? '' : `${names.length} ${kind} ${some(names)}`;
}

/** All of it, a line each: `-` is missing, `~` does not fit, `+` is left over. */
function report(
  label: string,
  faults: readonly WeightFault[],
  unreadable: readonly StoredTensor[],
  hint?: string,
): string {
  const width = Math.min(70, Math.max(...faults.map(({ name }) => nameOf(name).length), 0));
  const line = (sign: string, name: string, text: string) => `  ${sign} ${nameOf(name).padEnd(width)}  ${text}`;
  const lines = faults.map(({ kind, name, expected, found }) => {
    if (kind === 'missing') return line('-', name, `missing, ${shapeText(expected)}`);
    if (kind === 'unexpected') return line('+', name, `not used, ${shapeText(found)}`);
    return line('~', name, `expected ${shapeText(expected)}, found ${shapeText(found)}`);
  });
  const dtypes = unreadable.map(({ name, dtype }) => line('~', name, `dtype ${dtype} is not supported`));
  const last = hint ? [`  hint: ${hint}`] : [];
  return [`WeightError: ${label} does not fit its configuration`, ...lines, ...dtypes, ...last].join('\n');
}
