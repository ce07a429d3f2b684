import type { Command } from 'commander';
import type { Run } from '../context.js';

/** A command of the program: what `--help` says, and where its code is. */
export interface Page {
  readonly name: string;
  describe(command: Command): void;
  /** Imports the code, when the command runs. */
  load(): Promise<Run<never>>;
}
