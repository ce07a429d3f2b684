import assert from 'node:assert/strict';
import { ROOT, readJson } from '../support/fixtures.js';
import { faultsOfTree, type LockEntry } from '../support/runtime-tree.js';

interface Lock {
  readonly packages: Readonly<Record<string, LockEntry>>;
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

  it('what users get of all three packages runs no script when installed, and is free to use', () => {
    const runtime = Object.entries(packages).filter(
      ([path, { dev }]) => dev !== true && path.startsWith('node_modules/'),
    );
    assert.ok(runtime.length >= 15, `${runtime.length} packages`);
    assert.deepEqual(faultsOfTree(runtime), []);
  });

  it('that check finds install scripts, other licenses, and none', () => {
    const faults = faultsOfTree([
      ['a', { license: 'MIT' }],
      ['b', { license: '(MIT OR GPL-3.0-only)' }],
      ['c', { license: '(MIT OR Apache-2.0) AND BSD-3-Clause' }],
      ['ours', { link: true }],
      ['d', { license: 'MIT', hasInstallScript: true }],
      ['e', { license: 'GPL-3.0-only' }],
      ['f', {}],
      ['g', { license: 'MIT AND GPL-2.0-only' }],
      ['h', { license: 'SEE LICENSE IN LICENSE', hasInstallScript: true }],
    ]);
    const found = ['d has an install script', 'e has the license GPL-3.0-only', 'f has the license (none)'];
    assert.deepEqual(faults.slice(0, 3), found);
    assert.deepEqual(
      faults.slice(3).map((fault) => fault[0]),
      ['g', 'h', 'h'],
    );
  });
});
