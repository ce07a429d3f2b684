import { Image2TextError, OptionError } from '../errors.js';
import { CASE_KINDS } from './all-kinds.js';
import type { CaseKind, Found, ParityCase, ParityScope } from './case-kind.js';
import type { Folder } from './folders.js';
import { walkFolders } from './folders.js';
import { openModelShelf } from './model-shelf.js';
import type { ParityRow } from './parity-row.js';
import { failed, notRun } from './parity-row.js';

export interface ParityOptions {
  /** Runs only the cases whose name contains this, or matches it as a whole where it has a `*`. */
  readonly only?: string;
  readonly signal?: AbortSignal;
}

/**
 * Finds the parity cases under a folder (docs/parity.md) and runs them on the current tfjs backend, one row for each comparison as it
 * is made. A broken case is a row `fail`, one that cannot be run a row `not run`; neither stops the others. Leaves no tensor behind.
 *
 * @throws OptionError when the path is not a folder or no case is found in it; the signal's reason.
 */
export async function* runParity(directory: string, options: ParityOptions = {}): AsyncGenerator<ParityRow> {
  const { only, signal } = options;
  const models = openModelShelf(signal);
  const scope: ParityScope = { models, signal, asked: only !== undefined && /[^*]/.test(only) };
  const wanted = matcher(only);
  let cases = 0;
  try {
    for await (const folder of walkFolders(directory)) {
      for (const parityCase of (await findCases(folder)).filter(({ name }) => wanted(name))) {
        signal?.throwIfAborted();
        cases++;
        yield* runCase(parityCase, scope);
      }
    }
  } finally {
    models.dispose();
  }
  if (cases > 0) return;
  const detail = only === undefined ? 'no parity case in this folder or below it' : `no case matches ${only}`;
  throw new OptionError({ file: directory, code: 'no-cases', detail });
}

/** Each kind in turn takes its files; what is left and looks like a case is named, never passed over in silence. */
async function findCases(folder: Folder): Promise<ParityCase[]> {
  const cases: ParityCase[] = [];
  let unclaimed = folder.files;
  for (const kind of CASE_KINDS) {
    const found = await findKind(kind, folder, unclaimed);
    cases.push(...found.cases);
    unclaimed = unclaimed.filter((file) => !found.claims.includes(file));
  }
  return cases;
}

/** What a kind finds; a file that it cannot read becomes a case that fails, and the search goes on without it. */
async function findKind(kind: CaseKind, folder: Folder, unclaimed: readonly string[]): Promise<Found> {
  try {
    return (await kind.find(folder, unclaimed)) ?? { cases: [], claims: [] };
  } catch (error) {
    const file = error instanceof Image2TextError ? error.file : undefined;
    const message = error instanceof Error ? error.message : String(error);
    if (file === undefined || !unclaimed.includes(file)) {
      return { cases: [brokenCase(folder.label, message)], claims: [] };
    }
    const name = `${folder.label}/${file}`;
    const rest = await findKind(
      kind,
      folder,
      unclaimed.filter((other) => other !== file),
    );
    return { cases: [brokenCase(name, message), ...rest.cases], claims: [file, ...rest.claims] };
  }
}

function brokenCase(name: string, message: string): ParityCase {
  return {
    name,
    async *run() {
      yield failed(name, '-', message);
    },
  };
}

async function* runCase(parityCase: ParityCase, scope: ParityScope): AsyncGenerator<ParityRow> {
  try {
    yield* parityCase.run(scope);
  } catch (error) {
    scope.signal?.throwIfAborted();
    const unsupported = error instanceof Image2TextError && error.unsupported;

    const message = error instanceof Error ? error.message : String(error);
    yield unsupported ? notRun(parityCase.name, '-', message) : failed(parityCase.name, '-', message);
  }
}

/** `*` stands for anything; without one, a part of the name is enough. */
function matcher(only: string | undefined): (name: string) => boolean {
  if (only === undefined) return () => true;
  if (!only.includes('*')) return (name) => name.includes(only);
  const parts = only.split(/\*+/).map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'));
  const pattern = new RegExp(`^${parts.join('.*')}$`, 's');
  return (name) => pattern.test(name);
}
