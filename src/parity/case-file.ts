import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod/mini';
import { fromBytes } from '../checkpoint/byte-source.js';
import { readValues } from '../checkpoint/dtypes.js';
import { readJson } from '../checkpoint/json.js';
import { readSafetensors } from '../checkpoint/safetensors.js';
import { ConfigError } from '../errors.js';
import type { HostTensor } from './compare.js';

const numbersByName = z.record(z.string(), z.number());

/** What the json beside a tensor file may say; all of it optional, everything else ignored. */
const factsSchema = z.object({
  what: z.optional(z.string()),
  /** Largest |float32 - float64| of the reference, by tensor. */
  f32_vs_f64_max_abs: z.optional(numbersByName),
  /** Tolerance by tensor, or one for all. */
  suggested_atol: z.optional(numbersByName),
  atol: z.optional(z.number()),
  /** Another tensor file of the folder that holds the images. */
  pixel_values_from: z.optional(z.string()),
});
export type CaseFacts = z.infer<typeof factsSchema>;

/** A tensor file of a case with its json. */
export interface CaseFile {
  readonly folder: string;
  /** File name without its ending. */
  readonly name: string;
  readonly facts: CaseFacts;
  readonly tensors: ReadonlyMap<string, HostTensor>;
}

/** Reads NAME.safetensors and, where there is one, NAME.json. Throws SafetensorsError, WeightError or ConfigError. */
export async function readCaseFile(folder: string, name: string, hasJson: boolean): Promise<CaseFile> {
  const facts = hasJson ? await readJsonFile(folder, `${name}.json`, factsSchema) : {};
  return { folder, name, facts, tensors: await readTensors(folder, `${name}.safetensors`) };
}

/** Every tensor of a safetensors file, as numbers. */
export async function readTensors(folder: string, file: string): Promise<ReadonlyMap<string, HostTensor>> {
  const bytes = new Uint8Array(await readFile(join(folder, file)));
  const { tensors } = await readSafetensors(fromBytes(bytes), file);
  const result = new Map<string, HostTensor>();
  for (const [name, stored] of tensors) {
    const values = await readValues(stored);
    const numbers =
      values instanceof BigInt64Array || values instanceof BigUint64Array ? Array.from(values, Number) : values;
    result.set(name, { shape: stored.shape, values: numbers });
  }
  return result;
}

/** Reads a json file of a case and checks its layout. Throws ConfigError with the path of what is wrong. */
export async function readJsonFile<T extends z.core.$ZodType>(
  folder: string,
  file: string,
  schema: T,
): Promise<z.infer<T>> {
  const json = readJson(new Uint8Array(await readFile(join(folder, file))), file);
  return checkLayout(json, file, schema);
}

/** A list whose first entry is of this layout: enough to know a file by; whether all are, is found out when it is read. */
export const firstOf = <T extends z.ZodMiniType>(schema: T) => z.tuple([schema], z.unknown());

/** Does a json file have this layout? A broken one has none. */
export async function sniffJson(folder: string, file: string, schema: z.core.$ZodType): Promise<boolean> {
  return await readJsonFile(folder, file, schema).then(
    () => true,
    () => false,
  );
}

/** Checks what a json file holds against the layout that a kind of case has. */
export function checkLayout<T extends z.core.$ZodType>(json: unknown, file: string, schema: T): z.infer<T> {
  const parsed = z.safeParse(schema, json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = issue === undefined || issue.path.length === 0 ? undefined : issue.path.join('.');
  throw new ConfigError({ file, path, code: 'case-layout', detail: issue?.message ?? 'is wrong' });
}

/** The tensor `name` of a case, or a ConfigError that it is missing. */
export function needTensor(file: CaseFile, name: string): HostTensor {
  const tensor = file.tensors.get(name);
  if (tensor !== undefined) return tensor;
  throw new ConfigError({
    file: `${file.name}.safetensors`,
    path: name,
    code: 'case-layout',
    detail: 'this tensor is missing',
  });
}
