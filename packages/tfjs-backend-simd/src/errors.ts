/** A backend cannot start, lacks something, or was asked for what it does not do. */
export class BackendError extends Error {
  /** Said by hand: bundlers rename classes, and programs compare names. */
  override readonly name: string = 'BackendError';
  /** Where: the backend, kernel or argument that the error is about. */
  readonly path: string | undefined;
  /** Stable, kebab-case code of the broken rule, for programs (`cannot-start`). */
  readonly code: string;
  /** What was expected, what was found, what to do: one clause for people. */
  readonly detail: string;
  /** The input is legal, but outside what this backend does. */
  readonly unsupported: boolean;

  constructor(facts: {
    readonly path?: string | undefined;
    readonly code: string;
    readonly detail: string;
    readonly unsupported?: boolean | undefined;
    readonly cause?: unknown;
  }) {
    const where = facts.path === undefined ? '' : `${facts.path}: `;
    super(`${where}${facts.code}: ${facts.detail}`, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.path = facts.path;
    this.code = facts.code;
    this.detail = facts.detail;
    this.unsupported = facts.unsupported ?? false;
  }
}
