import { blockKernels } from './blocks.js';
import { convolutionKernels } from './convolution.js';
import { creationKernels } from './creation.js';
import { decoderStepKernels } from './decoder-step.js';
import { depthwiseKernels } from './depthwise.js';
import { elementwiseKernels } from './elementwise.js';
import { gradientKernels } from './gradients.js';
import { imageKernels } from './images.js';
import { indexingKernels } from './indexing.js';
import type { KernelTable } from './kernel.js';
import { matMulKernels } from './mat-mul.js';
import { joiningKernels, movementKernels } from './movement.js';
import { optimizerKernels } from './optimizer.js';
import { normalizationKernels, reduceKernels } from './reduce.js';
import { sparseKernels } from './sparse.js';
import { stringKernels } from './strings.js';
import { topTokensKernels } from './top-tokens.js';
import { transformerKernels } from './transformer.js';
import { windowKernels } from './windows.js';

/** Every kernel of this backend. A name that is not here makes tfjs throw, with the name. */
export const allKernels: KernelTable = {
  ...blockKernels,
  ...convolutionKernels,
  ...creationKernels,
  ...decoderStepKernels,
  ...depthwiseKernels,
  ...elementwiseKernels,
  ...gradientKernels,
  ...imageKernels,
  ...indexingKernels,
  ...joiningKernels,
  ...matMulKernels,
  ...movementKernels,
  ...normalizationKernels,
  ...optimizerKernels,
  ...reduceKernels,
  ...sparseKernels,
  ...stringKernels,
  ...topTokensKernels,
  ...transformerKernels,
  ...windowKernels,
};
