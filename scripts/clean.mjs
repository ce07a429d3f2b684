// Removes a folder of build results, `dist` unless another is named, below the repository's root.
import { rmSync } from 'node:fs';

rmSync(new URL(`../${process.argv[2] ?? 'dist'}`, import.meta.url), { recursive: true, force: true });
