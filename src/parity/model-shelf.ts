import type { Git } from '../model/git.js';
import { disposeGit } from '../model/git.js';
import { loadGit } from '../model/load-git.js';
import { fromDirectory } from '../platform/directory.js';

/** Keeps the model that was asked for last, since the cases of a folder share one. */
export interface ModelShelf {
  /** The model of a checkpoint folder; valid until the next call. Throws what loading it throws. */
  get(path: string): Promise<Git>;
  dispose(): void;
}

export function openModelShelf(signal: AbortSignal | undefined): ModelShelf {
  let held: { readonly path: string; readonly git: Git } | undefined;
  const dispose = (): void => {
    if (held !== undefined) disposeGit(held.git);
    held = undefined;
  };
  return {
    async get(path) {
      if (held?.path === path) return held.git;
      dispose();
      const git = await loadGit(await fromDirectory(path), signal === undefined ? {} : { signal });
      held = { path, git };
      return git;
    },
    dispose,
  };
}
