// Adds to package-lock.json the optional packages of other platforms that a partial npm mirror left out: `npm ci` of npm 11 refuses a lock file that
// does not name them all. Run it after `npm install` where test/package/lock.test.ts asks for it.
import { readFileSync, writeFileSync } from 'node:fs';

const file = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(file, 'utf8'));
for (const entry of Object.values(lock.packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    if (lock.packages[`node_modules/${name}`] !== undefined) continue;
    const [, system, cpu, libc] = /-(linux|darwin|win32|android)-(arm64|x64)(?:-(musl))?$/.exec(name) ?? [];
    const os = system ?? (/windows/.test(name) ? 'win32' : undefined); // vite names one package for every processor of Windows
    if (os === undefined) continue;
    lock.packages[`node_modules/${name}`] = {
      ...{ version: range.replace(/^[~^]/, ''), dev: entry.dev === true, optional: true, os: [os] },
      ...(cpu === undefined ? {} : { cpu: [cpu] }),
      ...(libc === undefined ? {} : { libc: [libc] }),
    };
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(file, `${JSON.stringify(lock, undefined, 2)}\n`);
