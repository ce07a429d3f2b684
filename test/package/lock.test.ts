import assert from 'node:assert/strict';
import { ROOT, readJson } from '../support/fixtures.js';

interface Lock {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly resolved?: string;
        readonly link?: boolean;
        readonly optionalDependencies?: Readonly<Record<string, string>>;
      }
    >
  >;
}

describe('package-lock.json', () => {
  const { packages } = readJson<Lock>(`${ROOT}package-lock.json`);

  it('names the optional packages of every platform (else: node scripts/complete-lock.mjs)', () => {
    const wanted = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
    assert.ok(wanted.length >= 10, `${wanted.length} optional packages`);
    const missing = wanted.filter(
      (name) => !Object.keys(packages).some((path) => path.endsWith(`node_modules/${name}`)),
    );
    assert.deepEqual(missing, []);
  });

  it('names no address, so that any registry will do', () => {
    assert.deepEqual(
      Object.values(packages).filter(({ link, resolved }) => resolved !== undefined && link !== true),
      [],
    );
  });
});
