// Adds to package-lock.json the optional packages of other platforms that a partial npm mirror left out: `npm ci` of npm 11 refuses a lock file that
// does not name them all. Run it after `npm install` where test/package/lock.test.ts asks for it.
import { readFileSync, writeFileSync } from 'node:fs';

const file = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(file, 'utf8'));
for (const entry of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const [, os, cpu, libc] = /-(linux|darwin|win32|android)-(arm64|x64)(?:-(musl))?$/.exec(name) ?? [];
    if (os === undefined || lock.packages[`node_modules/${name}`] !== undefined) continue;
    lock.packages[`node_modules/${name}`] = {
      ...{ version, dev: entry.dev === true, optional: true, os: [os], cpu: [cpu] },
      ...(libc === undefined ? {} : { libc: [libc] }),
    };
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`);
