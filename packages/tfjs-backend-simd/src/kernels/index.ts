import type { KernelTable } from '../kernel-context.js';
import { convolutionKernels } from './convolution.js';
import { creationKernels } from './creation.js';
import { elementwiseKernels } from './elementwise.js';
import { gradientKernels } from './gradients.js';
import { imageKernels } from './images.js';
import { indexingKernels } from './indexing.js';
import { matMulKernels } from './mat-mul.js';
import { joiningKernels, movementKernels } from './movement.js';
import { normalizationKernels, reduceKernels } from './reduce.js';
import { stringKernels } from './strings.js';
import { transformerKernels } from './transformer.js';
import { windowKernels } from './windows.js';

/** Every kernel of this backend. A name that is not here makes tfjs throw, with the name. */
export const allKernels: KernelTable = {
  ...convolutionKernels,
  ...creationKernels,
  ...elementwiseKernels,
  ...gradientKernels,
  ...imageKernels,
  ...indexingKernels,
  ...joiningKernels,
  ...matMulKernels,
  ...movementKernels,
  ...normalizationKernels,
  ...reduceKernels,
  ...stringKernels,
  ...transformerKernels,
  ...windowKernels,
};
