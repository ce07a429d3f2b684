// What JavaScript calls.

import { INT8_TILE_ROWS } from './int8';
import { TILE_ROWS } from './pack';

export { attentionScratch } from './attention';
export { attentionGradientScratch } from './backward';
export { largest } from './int8';
export { bestDots } from './int8-fast';
export { packPanels, packPanelsTransposed, packStrip, unpackColumn, unpackWeight, widenStored } from './pack';
export { busy, join, runAlone, runWaiting, serve, setLimit, share } from './pool';

/** Rows of A that one tile takes. */
export function tileRows(): i32 {
  return TILE_ROWS;
}

/** Rows of A that one tile takes against int8 weights. */
export function int8TileRows(): i32 {
  return INT8_TILE_ROWS;
}

