import type { CaseKind } from './case-kind.js';
import { checkpointCases } from './checkpoint-cases.js';
import { fullSizeCases } from './full-size-cases.js';
import { generationCases } from './generation-cases.js';
import { imageCases } from './image-cases.js';
import { modelCases } from './model-cases.js';
import { originalBeamCases } from './original-beam-cases.js';
import { normalizeCases, resizeCases } from './resize-cases.js';
import { routeCases } from './route-cases.js';
import { samplingCases } from './sampling-cases.js';
import { tokenizerCases } from './tokenizer-cases.js';
import { finetuneCases } from './training-cases.js';
import { unknownFiles } from './unknown-files.js';

/** Every kind of case, in the order in which they look at a folder. */
export const CASE_KINDS: readonly CaseKind[] = [
  checkpointCases,
  fullSizeCases,
  generationCases,
  originalBeamCases,
  samplingCases,
  imageCases,
  resizeCases,
  normalizeCases,
  routeCases,
  tokenizerCases,
  finetuneCases,
  modelCases,
  unknownFiles,
];
