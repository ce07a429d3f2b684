import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ParityOptions, ParityRow } from '../../src/parity/index.js';
import { runParity } from '../../src/parity/index.js';
import { expectTensors } from '../support/close.js';

/** All rows of a folder on the current backend; fails if a tensor is left. */
export function collect(directory: string, options: ParityOptions = {}): Promise<ParityRow[]> {
  return expectTensors(0, async () => {
    const rows: ParityRow[] = [];
    for await (const row of runParity(directory, options)) rows.push(row);
    return rows;
  });
}

/** A folder that is gone when `body` is done, with copies of the given files or folders in it. */
export async function withCopy<T>(sources: readonly string[], body: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'parity-'));
  try {
    for (const source of sources) {
      const target = join(directory, source.replace(/\/$/, '').split('/').at(-1)!);
      cpSync(source, target, { recursive: true, mode: 0 });
    }
    return await body(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Changes one element of a tensor in a safetensors file on disk by `change`. */
export function changeElement(path: string, name: string, index: number, change: (value: number) => number): void {
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  const headerLength = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength)));
  const { dtype, data_offsets: offsets } = header[name] as { dtype: string; data_offsets: [number, number] };
  const at = 8 + headerLength + offsets[0];
  if (dtype === 'F64') view.setFloat64(at + 8 * index, change(view.getFloat64(at + 8 * index, true)), true);
  else if (dtype === 'F32') view.setFloat32(at + 4 * index, change(view.getFloat32(at + 4 * index, true)), true);
  else if (dtype === 'I32') view.setInt32(at + 4 * index, change(view.getInt32(at + 4 * index, true)), true);
  else if (dtype === 'U8') view.setUint8(at + index, change(view.getUint8(at + index)));
  else throw new Error(`no test changes ${dtype}`);
  writeFileSync(path, bytes);
}

/** Changes a json file on disk. */
export function changeJson(path: string, change: (json: any) => void): void {
  const json = JSON.parse(readFileSync(path, 'utf8'));
  change(json);
  writeFileSync(path, JSON.stringify(json));
}

export type TestTensor = {
  readonly shape: readonly number[];
  readonly values: Float32Array | Float64Array | Int32Array;
};

/** Writes tensors as safetensors. */
export function writeSafetensors(path: string, tensors: Readonly<Record<string, TestTensor>>): void {
  const dtypes = { Float32Array: 'F32', Float64Array: 'F64', Int32Array: 'I32' } as const;
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, { shape, values }] of Object.entries(tensors)) {
    const dtype = dtypes[values.constructor.name as keyof typeof dtypes];
    header[name] = { dtype, shape, data_offsets: [end, end + values.byteLength] };
    end += values.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(new BigUint64Array([BigInt(json.length)]).buffer);
  const data = Object.values(tensors).map(
    ({ values }) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  );
  writeFileSync(path, Buffer.concat([length, json, ...data]));
}

/** A folder of text files. */
export function writeFolder(directory: string, files: Readonly<Record<string, string>>): void {
  mkdirSync(directory, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
}
