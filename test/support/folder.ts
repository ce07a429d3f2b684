import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const make = (): string => mkdtempSync(join(tmpdir(), 'image2text-'));
const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true });

/** A folder that is gone when the tests of the enclosing `describe` have ended: `path()` is its name, `path('a', 'b')` one of a file in it. */
export function scratch(): (...names: readonly string[]) => string {
  let folder = '';
  before(() => {
    folder = make();
  });
  after(() => remove(folder));
  return (...names) => join(folder, ...names);
}

/** Runs `body` with an empty folder that is removed afterwards. */
export async function withFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = make();
  try {
    return await body(folder);
  } finally {
    remove(folder);
  }
}
