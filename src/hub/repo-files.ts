/** Which files of a repository a GIT checkpoint needs, and no others: a repository may hold the same weights five times. */
import { HubError, quote } from '../errors.js';
import { checkFileName } from './names.js';

/** Files beside the weights; those that exist are taken, configuration first. */
const SMALL_FILES = [
  'config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'generation_config.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.txt',
  'tokenizer.json',
] as const;

/** Weights in the order of preference: safetensors cannot run code and need no unpacking. */
const WEIGHT_FILES = [
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
  'model.pt',
] as const;

/** What to take. */
export interface FileSelection {
  /** In this order: small files first, so that weights in a cache mean that the rest is there too. */
  readonly small: readonly string[];
  /** The one weight file, or the index that names the shards. */
  readonly weights: string;
  readonly sharded: boolean;
}

/** Chooses among the names of a repository or folder. Throws HubError `no-config` or `no-weights`, naming what was looked for. */
export function selectFiles(names: Iterable<string>, label: string): FileSelection {
  const present = new Set(names);
  const weights = WEIGHT_FILES.find((name) => present.has(name));
  if (weights === undefined) {
    throw new HubError({ file: label, code: 'no-weights', detail: `it has none of ${WEIGHT_FILES.join(', ')}` });
  }
  if (!present.has('config.json') && weights !== 'model.pt') {
    throw new HubError({ file: label, code: 'no-config', detail: 'it has no config.json' });
  }
  return {
    small: SMALL_FILES.filter((name) => present.has(name)),
    weights,
    sharded: weights.endsWith('.index.json'),
  };
}

/** The shards that an index names, each once, in order. Throws HubError `shard-index` or `file-name`. */
export function shardNames(indexText: string, label: string): string[] {
  const fail = (detail: string): never => {
    throw new HubError({ file: label, code: 'shard-index', detail });
  };
  const names = Object.values(weightMap(indexText) ?? fail('it has no "weight_map" of tensor names to file names'));
  if (names.length === 0) fail('its "weight_map" is empty');
  for (const name of new Set(names)) {
    const plain = typeof name === 'string' && !name.includes('/') && /\.(?:safetensors|bin)$/.test(name);
    if (!plain) fail(`${typeof name === 'string' ? quote(name) : typeof name} is not the name of a shard beside it`);
    checkFileName(name);
  }
  return [...new Set(names as string[])].sort();
}

function weightMap(text: string): Record<string, unknown> | undefined {
  try {
    const map = (JSON.parse(text) as { weight_map?: unknown } | null)?.weight_map;
    return typeof map === 'object' && map !== null && !Array.isArray(map)
      ? (map as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
