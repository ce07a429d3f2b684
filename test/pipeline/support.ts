import { loadImage2Text } from '../../src/node.js';
import { useBackend } from '../support/backends.js';
import { DEMO, EXAMPLES } from '../support/fixtures.js';

export const BOOK = `${EXAMPLES}red-book-short.png`;
export const MUG = `${EXAMPLES}blue-mug-juice.png`;
export const TOWER = `${EXAMPLES}white-sign-tower.png`;
export const VIDEO = `${EXAMPLES}video-1.gif`;

/** The demo checkpoint on wasm. */
export async function loadDemo() {
  await useBackend('wasm');
  return loadImage2Text(DEMO);
}

/** What a refused call says: `place: rule`. */
export async function refusal(call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
  } catch (error) {
    const { name, path, code, message } = error as { name: string; path?: string; code?: string; message: string };
    if (code === undefined || /\n/.test(message)) throw error;
    return `${name} ${path}: ${code}`;
  }
  return 'accepted';
}
