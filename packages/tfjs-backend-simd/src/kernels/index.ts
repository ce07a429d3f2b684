import { binaryKernels } from './binary.js';
import { blockKernels } from './blocks.js';
import { convolutionKernels } from './convolution.js';
import { convolutionGradientKernels } from './convolution-gradients.js';
import { creationKernels } from './creation.js';
import { depthwiseKernels } from './depthwise.js';
import { detectionKernels } from './detection.js';
import { dilationKernels } from './dilation.js';
import { einsumKernels } from './einsum.js';
import { gitAttentionKernels } from './git-attention.js';
import { gitLayerNormKernels } from './git-layer-norm.js';
import { gitLinearKernels } from './git-linear.js';
import { imageKernels } from './image.js';
import { indexingKernels } from './indexing.js';
import { joiningKernels } from './joining.js';
import { matMulKernels } from './mat-mul.js';
import { movementKernels } from './movement.js';
import { normalisationKernels } from './normalisation.js';
import { paddingKernels } from './padding.js';
import { poolKernels } from './pool.js';
import { randomKernels } from './random.js';
import { reduceKernels } from './reduce.js';
import { resizeKernels } from './resize.js';
import { scatterKernels } from './scatter.js';
import { searchingKernels } from './searching.js';
import { shapeKernels } from './shape.js';
import { sparseKernels } from './sparse.js';
import { stringKernels } from './strings.js';
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
  ...joiningKernels,
  ...paddingKernels,
  ...indexingKernels,
  ...matMulKernels,
  ...einsumKernels,
  ...convolutionKernels,
  ...convolutionGradientKernels,
  ...depthwiseKernels,
  ...dilationKernels,
  ...poolKernels,
  ...resizeKernels,
  ...imageKernels,
  ...blockKernels,
  ...normalisationKernels,
  ...detectionKernels,
  ...scatterKernels,
  ...searchingKernels,
  ...sparseKernels,
  ...stringKernels,
  ...randomKernels,
  ...gitLinearKernels,
  ...gitLayerNormKernels,
  ...gitAttentionKernels,
};
