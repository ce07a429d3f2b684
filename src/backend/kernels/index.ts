import { binaryKernels } from './binary.js';
import { conv2dKernels } from './conv2d.js';
import { creationKernels } from './creation.js';
import { gitAttentionKernels } from './git-attention.js';
import { gitLayerNormKernels } from './git-layer-norm.js';
import { gitLinearKernels } from './git-linear.js';
import { indexingKernels } from './indexing.js';
import { matMulKernels } from './mat-mul.js';
import { movementKernels } from './movement.js';
import { reduceKernels } from './reduce.js';
import { shapeKernels } from './shape.js';
import type { KernelTable } from './table.js';
import { unaryKernels } from './unary.js';

/** Every kernel of this backend. A name that is not here makes tfjs throw, with the name. */
export const allKernels: KernelTable = {
  ...shapeKernels,
  ...creationKernels,
  ...unaryKernels,
  ...binaryKernels,
  ...reduceKernels,
  ...movementKernels,
  ...indexingKernels,
  ...matMulKernels,
  ...conv2dKernels,
  ...gitLinearKernels,
  ...gitLayerNormKernels,
  ...gitAttentionKernels,
};
