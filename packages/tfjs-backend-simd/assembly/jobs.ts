// The jobs by number, as in ../memory-map.ts.

import { attentionJob } from './attention';
import { copyJob } from './copy';
import { mapJob, zipJob } from './elementwise';
import { roundTilesJob } from './int8';
import { linearJob, packTilesJob } from './linear';
import { layerNormJob, reduceJob, softmaxJob } from './rows';

/** Jobs with chunks so long that a helper is not waited for when it is put aside (helper.ts). */
export function takesApart(job: i32): bool {
  return job == 7 || job == 9;
}

export function execute(job: i32, chunk: i32, thread: i32): void {
  switch (job) {
    case 0: mapJob(chunk); break;
    case 1: zipJob(chunk); break;
    case 2: reduceJob(chunk); break;
    case 3: softmaxJob(chunk); break;
    case 4: layerNormJob(chunk, thread); break;
    case 5: copyJob(chunk); break;
    case 6: packTilesJob(chunk); break;
    case 7: linearJob(chunk, thread); break;
    case 8: roundTilesJob(chunk, thread); break;
    case 9: attentionJob(chunk, thread); break;
  }
}
