// Writes the WebAssembly of the WebP and AVIF decoders as ES modules to src/image/generated: loaded like any other module when the first
// such image is met, in Node and through every bundler, instead of a file whose address each of them finds in its own way.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const generated = fileURLToPath(new URL('../src/image/generated/', import.meta.url));
const { resolve } = createRequire(import.meta.url);

mkdirSync(generated, { recursive: true });
for (const name of ['webp', 'avif']) {
  const binary = readFileSync(resolve(`@jsquash/${name}/codec/dec/${name}_dec.wasm`));
  const hash = createHash('sha256').update(binary).digest('hex');
  const path = `${generated}${name}-wasm.ts`;
  if (existsSync(path) && readFileSync(path, 'utf8').includes(hash)) continue;
  const text = `// Written by scripts/build-decoders.mjs: ${name}_dec.wasm of @jsquash/${name} (sha256 ${hash}).\nexport const base64 =\n  '${binary.toString('base64')}';\n`;
  writeFileSync(path, text);
}
