// What JavaScript calls.

import { TILE_ROWS } from './pack';

export { attentionScratch } from './attention';
export { largest, packTilesInt16 } from './linear';
export { packPanels, packPanelsTransposed, packWeight, unpackWeight } from './pack';
export { dismiss, join, runAlone, serve, share } from './pool';
export { peak, readAll } from './probe';

/** Rows of A that one tile takes. */
export function tileRows(): i32 {
  return TILE_ROWS;
}

