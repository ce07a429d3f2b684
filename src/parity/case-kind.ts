import type { Folder } from './folders.js';
import type { ModelShelf } from './model-shelf.js';
import type { ParityRow } from './parity-row.js';

/** What a running case may use. */
export interface ParityScope {
  readonly models: ModelShelf;
  readonly signal: AbortSignal | undefined;
  /** The case was asked for by name (`--only`), so it runs even where it takes minutes. */
  readonly asked: boolean;
}

/** One case of a folder: a name, and how to run it. */
export interface ParityCase {
  /** As rows and `--only` name it. */
  readonly name: string;
  /** Makes the rows. What it throws becomes a row, so that one broken case does not hide the others. */
  run(scope: ParityScope): AsyncGenerator<ParityRow>;
}

/** The cases that a kind found in a folder, and the files that it takes as its own. */
export interface Found {
  readonly cases: readonly ParityCase[];
  readonly claims: readonly string[];
}

/** A kind of case: looks at the files that no kind before it has claimed; undefined where there is nothing of its kind. */
export interface CaseKind {
  find(folder: Folder, unclaimed: readonly string[]): Promise<Found | undefined>;
}
