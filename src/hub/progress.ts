import type { LoadedBytes, OnLoadEvent } from '../load-events.js';

/** Progress events, shaped as transformers.js shapes them, so that the same progress bar serves both. */

/** What happens to the files of one repository, as events. */
export interface ProgressReport {
  /** A file that will be fetched, with its size: from then on it counts in `progress_total`. */
  expect(file: string, total: number): void;
  initiate(file: string): void;
  download(file: string): void;
  /** `loaded` bytes of the file are here; steps below half a percent are not told. */
  advance(file: string, loaded: number): void;
  done(file: string): void;
}

const STEP = 200;

/** Makes the events of repository `name`. What `onProgress` throws ends the download. */
export function progressReport(name: string, onProgress: OnLoadEvent | undefined): ProgressReport {
  const files = new Map<string, LoadedBytes>();
  const emit = onProgress ?? (() => undefined);
  const percent = (loaded: number, total: number) => (total === 0 ? 100 : (loaded / total) * 100);

  const tell = (file: string, loaded: number, total: number) => {
    files.set(file, { loaded, total });
    emit({ status: 'progress', name, file, progress: percent(loaded, total), loaded, total });
    const all = [...files.values()];
    const [here, whole] = [all.reduce((sum, f) => sum + f.loaded, 0), all.reduce((sum, f) => sum + f.total, 0)];
    const state = { progress: percent(here, whole), loaded: here, total: whole, files: Object.fromEntries(files) };
    emit({ status: 'progress_total', name, ...state });
  };

  return {
    expect: (file, total) => void files.set(file, { loaded: 0, total }),
    initiate: (file) => emit({ status: 'initiate', name, file }),
    download: (file) => emit({ status: 'download', name, file }),
    advance(file, loaded) {
      const before = files.get(file) ?? { loaded: 0, total: loaded };
      const step = Math.abs(loaded - before.loaded);
      if (step > 0 && (step >= before.total / STEP || loaded >= before.total)) tell(file, loaded, before.total);
    },
    done(file) {
      const { loaded, total } = files.get(file) ?? { loaded: 0, total: 0 };
      if (loaded < total) tell(file, total, total);
      emit({ status: 'done', name, file });
    },
  };
}
