/**
 * Typed errors. Every failure that input can cause is one of these, and its facts are fields, so that a program can act on them
 * and a person can read them: `FILE: PLACE: RULE: detail`, one line, names from the input quoted and cut.
 */

/** The facts of a failure. */
export interface ErrorFacts {
  /** The file, URL or image that the error is about, as the caller named it. */
  readonly file?: string | undefined;
  /** Where in it: a dotted path (`vision_config.patch_size`), a tensor name, a chunk or a line. */
  readonly path?: string | undefined;
  /** Byte offset in the file, where one makes sense. */
  readonly offset?: number | undefined;
  /** Stable, kebab-case code of the broken rule, for programs (`offsets-overlap`). */
  readonly code: string;
  /** What was expected, what was found, what to do: one clause for people. */
  readonly detail: string;
  /** The input is legal, but outside what this project does. */
  readonly unsupported?: boolean | undefined;
  readonly cause?: unknown;
}

/** Most characters of a message whose names can be shortened; a reason is never cut to fit in. */
const MESSAGE_LIMIT = 300;
/** Fewest characters that are left of a name. */
const SHORTEST_NAME = 40;
/** Most characters of a reason: it may quote a file. */
const REASON_LIMIT = 1000;

/** Quotes a name that came from a file: control characters escaped, at most 60 characters. */
export function quote(name: string): string {
  const cut = name.length > 60 ? `${name.slice(0, 57)}...` : name;
  return JSON.stringify(cut).replace(
    /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function oneLine(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u2028-\u202e]+/g, // a message from a file must not be able to forge a second line
    ' ',
  );
}

function compose(facts: ErrorFacts): string {
  const names = [facts.file, facts.path].filter((name) => name !== undefined).map(oneLine);
  const detail = oneLine(facts.detail);
  const reason = detail.length > REASON_LIMIT ? `${detail.slice(0, REASON_LIMIT - 3)}...` : detail;
  const rest = [...(facts.offset === undefined ? [] : [`offset ${facts.offset}`]), facts.code, reason].join(': ');
  const width = Math.floor((MESSAGE_LIMIT - rest.length) / Math.max(names.length, 1)) - 2;
  return [...names.map((name) => shortenName(name, Math.max(width, SHORTEST_NAME))), rest].join(': ');
}

/** A long name with `…` for its middle: its end tells files apart. */
function shortenName(name: string, limit: number): string {
  if (name.length <= limit) return name;
  const start = Math.floor(limit / 3);
  return `${name.slice(0, start)}…${name.slice(name.length - (limit - start - 1))}`;
}

/** Base of all errors that this library throws on purpose (an aborted call throws the signal's own reason instead). */
export class Image2TextError extends Error {
  /** Said by hand in each class: bundlers rename classes, and programs compare names. */
  override readonly name: string = 'Image2TextError';
  readonly file: string | undefined;
  readonly path: string | undefined;
  readonly offset: number | undefined;
  readonly code: string;
  readonly detail: string;
  readonly unsupported: boolean;

  constructor(facts: ErrorFacts) {
    super(compose(facts), facts.cause === undefined ? undefined : { cause: facts.cause });
    this.file = facts.file;
    this.path = facts.path;
    this.offset = facts.offset;
    this.code = facts.code;
    this.detail = facts.detail;
    this.unsupported = facts.unsupported ?? false;
  }
}

/** config.json, preprocessor_config.json, generation_config.json or any other JSON of a checkpoint breaks a rule. */
export class ConfigError extends Image2TextError {
  override readonly name: string = 'ConfigError';
}
/** A safetensors file or its shard index breaks a rule of the format. */
export class SafetensorsError extends Image2TextError {
  override readonly name: string = 'SafetensorsError';
}
/** A PyTorch file (zip or legacy container, pickle) breaks a rule, or asks for what we never run. */
export class TorchFileError extends Image2TextError {
  override readonly name: string = 'TorchFileError';
}
/** vocab.txt or tokenizer.json breaks a rule, or an id is not in the vocabulary. */
export class TokenizerError extends Image2TextError {
  override readonly name: string = 'TokenizerError';
}
/** An image cannot be decoded, or is larger than the limit. */
export class ImageError extends Image2TextError {
  override readonly name: string = 'ImageError';
}
/** Predictions and references do not fit each other, or a file of them breaks a rule. */
export class MetricError extends Image2TextError {
  override readonly name: string = 'MetricError';
}
/** A download, its address, its cache or its checks failed. */
export class HubError extends Image2TextError {
  override readonly name: string = 'HubError';
}
/** An option or argument of a call is wrong (names the option). */
export class OptionError extends Image2TextError {
  override readonly name: string = 'OptionError';
}
/** A model, session or image was used after `dispose()`. */
export class DisposedError extends Image2TextError {
  override readonly name: string = 'DisposedError';
}
/** A backend is missing, cannot start, or lacks something; or a computation gave NaN or infinity. */
export class BackendError extends Image2TextError {
  override readonly name: string = 'BackendError';
}

/** One tensor that does not fit. */
export interface WeightFault {
  readonly kind: 'missing' | 'unexpected' | 'misshapen';
  readonly name: string;
  /** Shape that the configuration asks for (missing, misshapen). */
  readonly expected?: readonly number[];
  /** Shape in the file (unexpected, misshapen). */
  readonly found?: readonly number[];
}

/** The tensors of a checkpoint do not fit its configuration. `faults` lists all; `report` is the same as text, a line each. */
export class WeightError extends Image2TextError {
  override readonly name: string = 'WeightError';
  readonly faults: readonly WeightFault[];
  readonly report: string;

  constructor(facts: ErrorFacts & { readonly faults?: readonly WeightFault[]; readonly report?: string }) {
    super(facts);
    this.faults = facts.faults ?? [];
    this.report = facts.report ?? this.message;
  }
}
