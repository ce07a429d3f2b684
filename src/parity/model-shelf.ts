import type { Git } from '../model/git.js';
import { disposeGit } from '../model/git.js';
import { loadGit } from '../model/load-git.js';
import { fromDirectory } from '../platform/node-files.js';

/** Keeps the model that was asked for last, since the cases of a folder share one. */
export interface ModelShelf {
  /**
   * The model of a folder; valid until the next call. Throws what loading it throws.
   *
   * @param load makes it, where the folder is not a checkpoint.
   */
  get(path: string, load?: () => Promise<Git>): Promise<Git>;
  dispose(): void;
}

export function openModelShelf(signal: AbortSignal | undefined): ModelShelf {
  let held: { readonly path: string; readonly git: Git } | undefined;
  const dispose = (): void => {
    if (held !== undefined) disposeGit(held.git);
    held = undefined;
  };
  return {
    async get(path, load = async () => loadGit(await fromDirectory(path), signal === undefined ? {} : { signal })) {
      if (held?.path === path) return held.git;
      dispose(); // first, so that two models never share the memory
      held = { path, git: await load() };
      return held.git;
    },
    dispose,
  };
}
