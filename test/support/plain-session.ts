import type { DecoderSession } from '../../src/generation/session.js';
import type { PlainGit, PlainImage, PlainNode } from './plain-git.js';

/** A text token with the tokens that were tried behind it, so that no prefix is computed twice. */
interface Branch {
  readonly node: PlainNode | undefined;
  readonly next: Map<number, Branch>;
}

/** An image of the plain model with all prefixes computed so far. */
export interface PlainInput {
  readonly image: PlainImage;
  readonly root: Branch;
}

export const plainInput = (git: PlainGit, frames: readonly Float64Array[]): PlainInput => ({
  image: git.encode(frames),
  root: { node: undefined, next: new Map() },
});

/**
 * The session contract over the plain model, one row per image at first. `padding[row]` lists how many leading prompt tokens of the row are
 * padding; `forgets`: they are masked in the first step only, as 4.40 does with its cache.
 */
export function plainSession(
  git: PlainGit,
  images: readonly PlainInput[],
  padding: readonly number[] = [],
  forgets = false,
): DecoderSession {
  let rows = images.map((image, r) => {
    const root = padding[r] === undefined ? image.root : { node: undefined, next: new Map<number, Branch>() };
    return { image, at: root, pads: padding[r] ?? 0, length: 0 };
  });
  let steps = 0;
  return {
    get rows() {
      return rows.length;
    },
    maxLength: git.maxLength,
    async step(ids) {
      const seesPads = forgets && steps > 0;
      steps++;
      rows = rows.map((row, r) => {
        let { at, length } = row;
        for (const id of ids[r]!) {
          at = branch(git, row.image.image, at, id, length < row.pads, seesPads);
          length++;
        }
        return { ...row, at, length };
      });
      return rows.map((row) => Float32Array.from(row.at.node!.logits));
    },
    reorder(order) {
      rows = order.map((row) => rows[row]!);
    },
    dispose() {
      rows = [];
    },
  };
}

function branch(
  git: PlainGit,
  image: PlainImage,
  from: Branch,
  id: number,
  masked: boolean,
  seesPads: boolean,
): Branch {
  const known = from.next.get(id);
  if (known !== undefined) return known;
  const made: Branch = { node: git.extend(image, from.node, id, masked, seesPads), next: new Map() };
  from.next.set(id, made);
  return made;
}
