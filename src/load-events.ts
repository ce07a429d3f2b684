/** Bytes of one file. */
export interface LoadedBytes {
  readonly loaded: number;
  readonly total: number;
}

/**
 * What happens while a model is loaded or downloaded, in transformers.js's shape, so that a progress bar made for it works here. `name` is the
 * model, `file` a file of it or `weights`, `progress` is 0 to 100, `loaded` and `total` are bytes.
 */
export type LoadEvent =
  | { readonly status: 'initiate' | 'download' | 'done'; readonly name: string; readonly file: string }
  | ({
      readonly status: 'progress';
      readonly name: string;
      readonly file: string;
      readonly progress: number;
    } & LoadedBytes)
  | ({
      readonly status: 'progress_total';
      readonly name: string;
      readonly progress: number;
      readonly files: Readonly<Record<string, LoadedBytes>>;
    } & LoadedBytes)
  | { readonly status: 'ready'; readonly task: string; readonly model: string };

export type OnLoadEvent = (event: LoadEvent) => void;
