import { z } from 'zod/mini';
import type { Git } from '../model/git.js';
import { disposeCache } from '../model/kv-cache.js';
import { firstOf, needTensor, readJsonFile, readTensors, sniffJson } from './case-file.js';
import type { CaseKind, ParityCase, ParityScope } from './case-kind.js';
import type { HostTensor } from './compare.js';
import type { Folder } from './folders.js';
import { toChannelsLast } from './forward-input.js';
import { tiledCache } from './forward-stages.js';
import { generationGolden, runGolden } from './generation-golden.js';
import { takeRows } from './host-tensors.js';

/** By these a file is known. */
const sign = z.object({
  cases: firstOf(z.object({ args: z.unknown(), sequences: z.unknown() })),
});

const namedGolden = z.extend(generationGolden, { name: z.string(), images: z.array(z.int().check(z.minimum(0))) });
const schema = z.object({ cases: z.array(namedGolden) });
type NamedGolden = z.infer<typeof namedGolden>;

/** Goldens of `generate`: NAME.json lists them, NAME.safetensors has the images that they name by row. */
export const generationCases: CaseKind = {
  async find(folder, unclaimed) {
    if (!folder.files.includes('config.json')) return undefined;
    const cases: ParityCase[] = [];
    const claims: string[] = [];
    for (const file of unclaimed.filter((name) => name.endsWith('.json'))) {
      if (!(await sniffJson(folder.path, file, sign))) continue;
      const { cases: goldens } = await readJsonFile(folder.path, file, schema);
      const images = file.replace(/json$/, 'safetensors');
      cases.push(...goldens.map((golden) => goldenCase(folder, images, golden)));
      claims.push(file, images);
    }
    return { cases, claims };
  },
};

function goldenCase(folder: Folder, images: string, golden: NamedGolden): ParityCase {
  const name = `${folder.label}/${images.replace(/\.safetensors$/, '')}/${golden.name}`;
  return {
    name,
    async *run({ models, signal }: ParityScope) {
      const git = await models.get(folder.path);
      const image = tiledCache(git, await caseImages(git, folder.path, images, golden.images), golden.images.length);
      try {
        yield* runGolden(git, image, golden, name, signal);
      } finally {
        disposeCache(image);
      }
    },
  };
}

/** Rows of `pixel_values` of a tensor file, channels last. */
export async function caseImages(
  git: Git,
  folder: string,
  file: string,
  images: readonly number[],
): Promise<HostTensor> {
  const name = file.replace(/\.safetensors$/, '');
  const tensors = await readTensors(folder, file);
  const all = needTensor({ folder, name, facts: {}, tensors }, 'pixel_values');
  return toChannelsLast(takeRows(all, images, file), name, git.config);
}
