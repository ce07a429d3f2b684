/** What happens while a model is loaded or downloaded, in transformers.js's shape, so that a progress bar made for it works here. */

/** Bytes of one file. */
export interface LoadedBytes {
  readonly loaded: number;
  readonly total: number;
}

/** `name` is the model, `file` a file of it or `weights`, `progress` is 0 to 100, `loaded` and `total` are bytes. */
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

/** What it throws ends the loading; so does what it rejects with, at the next event. */
export type OnLoadEvent = (event: LoadEvent) => unknown;

/** A caller's listener, whose rejected promises are never left unhandled: the next call throws what one rejected with. */
export function eventSink<Event extends unknown[]>(listener: (...event: Event) => unknown): (...event: Event) => void {
  let failure: { readonly error: unknown } | undefined;
  return (...event) => {
    if (failure !== undefined) throw failure.error;
    const result = listener(...event);
    if (typeof (result as PromiseLike<unknown> | null | undefined)?.then !== 'function') return;
    Promise.resolve(result).catch((error: unknown) => {
      failure ??= { error };
    });
  };
}

/** What happens to the files of one repository or folder, as events. */
export interface ProgressReport {
  /** A file that will be fetched, with its size: from then on it counts in `progress_total`. */
  expect(file: string, total: number): void;
  initiate(file: string): void;
  download(file: string): void;
  /** `loaded` bytes of the file are here; where its size is not known they are all of it so far. Steps below half a percent, and steps back, are not reported. */
  advance(file: string, loaded: number): void;
  done(file: string): void;
  /** Files that were expected and never asked for will not be: they no longer count. */
  settle(): void;
}

const STEPS = 200;

/** Makes the events of repository `name`. What `onProgress` throws ends the download. */
export function progressReport(name: string, onProgress: OnLoadEvent | undefined): ProgressReport {
  const files = new Map<string, LoadedBytes>();
  const asked = new Set<string>();
  const emit = onProgress === undefined ? () => undefined : eventSink(onProgress);
  const percent = (loaded: number, total: number) => (total === 0 ? 100 : (loaded / total) * 100);

  const report = (file: string, loaded: number, total: number) => {
    files.set(file, { loaded, total });
    emit({ status: 'progress', name, file, progress: percent(loaded, total), loaded, total });
    const all = [...files.values()];
    const [here, whole] = [all.reduce((sum, f) => sum + f.loaded, 0), all.reduce((sum, f) => sum + f.total, 0)];
    const state = { progress: percent(here, whole), loaded: here, total: whole, files: Object.fromEntries(files) };
    emit({ status: 'progress_total', name, ...state });
  };

  return {
    expect(file, total) {
      if (files.get(file)?.total !== total) files.set(file, { loaded: 0, total });
    },
    initiate(file) {
      asked.add(file);
      emit({ status: 'initiate', name, file });
    },
    download: (file) => emit({ status: 'download', name, file }),
    advance(file, loaded) {
      const { loaded: before, total } = files.get(file) ?? { loaded: 0, total: loaded };
      const step = loaded - before;
      if (step > 0 && (step >= total / STEPS || loaded >= total)) report(file, loaded, Math.max(loaded, total));
    },
    done(file) {
      const { loaded, total } = files.get(file) ?? { loaded: 0, total: 0 };
      if (loaded < total) report(file, total, total);
      emit({ status: 'done', name, file });
    },
    settle() {
      for (const file of files.keys()) if (!asked.has(file)) files.delete(file);
    },
  };
}
