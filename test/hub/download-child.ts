/** Run as a process of its own, to be killed: downloads the snapshot that its arguments name and prints the result. */
import { downloadSnapshot } from '../../src/hub/snapshot.js';

const [endpoint = '', cacheDir = '', repo = ''] = process.argv.slice(2);
const limits = { backoffMs: 20, idleMs: 5000 };
const { directory } = await downloadSnapshot(repo, { endpoint, cacheDir, limits, env: {} });
process.stdout.write(directory);
