/** What happens in a run, as plain data: what `onEvent` receives, and a line of log.jsonl each. */
export type TrainingEvent =
  | StartEvent
  | StepEvent
  | ValidationEvent
  | WarningEvent
  | SkippedEvent
  | SavedEvent
  | EndEvent;

export interface StartEvent {
  readonly type: 'start';
  readonly pairs: number;
  readonly validationPairs: number;
  readonly steps: number;
  /** The first step of this process: more than 0 where a run goes on. */
  readonly fromStep: number;
  /** How many numbers are trained, and how many the model has. */
  readonly trained: number;
  readonly parameters: number;
}

export interface StepEvent {
  readonly type: 'step';
  /** From 1: updates made. */
  readonly step: number;
  readonly steps: number;
  /** Mean over the learnt tokens, before the update. */
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Tokens learnt in this step. */
  readonly tokens: number;
  readonly seconds: number;
  readonly epoch: number;
}

/** A held-out pair, and what the model says. */
export interface ValidationSample {
  readonly name: string;
  readonly prompt: string;
  readonly expected: string;
  readonly text: string;
}

export interface ValidationEvent {
  readonly type: 'validation';
  /** Updates made; 0: the model as it came, which is never the best. */
  readonly step: number;
  /** Cross-entropy, mean over the tokens that would be learnt. */
  readonly loss: number;
  /** Share of texts that greedy decoding gives word for word. */
  readonly exactMatch: number;
  /** CIDEr-D, 0 to 10; undefined where no reference has a word. */
  readonly cider: number | undefined;
  readonly samples: readonly ValidationSample[];
  /** Is it the best so far? */
  readonly best: boolean;
}

export type WarningCode =
  | 'same-caption'
  | 'prompt-in-text'
  | 'learning-rate'
  | 'loss-rises'
  | 'pairs-cut'
  | 'no-validation'
  | 'validation-learnt'
  | 'unknown-words';

export interface WarningEvent {
  readonly type: 'warning';
  readonly code: WarningCode;
  readonly detail: string;
}

/** A pair that cannot be used. */
export interface SkippedEvent {
  readonly type: 'skipped';
  /** Where it is: the file and line, or the number of the pair. */
  readonly source: string;
  readonly detail: string;
}

export interface SavedEvent {
  readonly type: 'saved';
  readonly step: number;
  /** The file, or the folder of a checkpoint. */
  readonly name: string;
}

export interface EndEvent {
  readonly type: 'end';
  readonly step: number;
  readonly seconds: number;
}
