/** One colour component of a frame, with all that its scans fill in. */
export interface Component {
  readonly id: number;
  /** Sampling factors, 1 to 4. */
  readonly h: number;
  readonly v: number;
  readonly quantTable: number;
  /** Real size in samples: the image's size times h / maxH, v / maxV, rounded up. */
  readonly width: number;
  readonly height: number;
  /** Size in blocks of 8 by 8: what the real size needs, and what whole MCUs need. */
  readonly blocksWide: number;
  readonly blocksHigh: number;
  readonly stride: number;
  readonly rows: number;
  /** Quantisation, natural order, as it stood at the component's first scan. */
  quant: Int32Array | undefined;
  /** Decoded samples, rows * 8 lines of stride * 8. */
  plane: Uint8Array;
  /** Progressive only: rows * stride blocks of 64 coefficients, natural order, not yet dequantised. */
  coefficients: Int16Array;
  /** Per coefficient, in zigzag order: the lowest bit known so far; -1 while it was not sent. */
  readonly known: Int8Array;
}

export interface Frame {
  readonly progressive: boolean;
  readonly width: number;
  readonly height: number;
  readonly maxH: number;
  readonly maxV: number;
  readonly mcusWide: number;
  readonly mcusHigh: number;
  readonly components: readonly Component[];
}

/** A Huffman table of DHT, made for looking up. */
export interface HuffmanTable {
  /** length << 8 | symbol for every 9-bit beginning that holds a whole code; 0 otherwise. */
  readonly fast: Uint16Array;
  /** First value past the codes of each length, aligned to 16 bits; [18], the last is a stop. */
  readonly limits: Int32Array;
  /** symbol index = code + offsets[length]. */
  readonly offsets: Int32Array;
  readonly symbols: Uint8Array;
}

/** One component's part in a scan. */
export interface ScanComponent {
  readonly component: Component;
  readonly dc: HuffmanTable | undefined;
  readonly ac: HuffmanTable | undefined;
}

/** A scan header: which components, which coefficients, which bits. */
export interface Scan {
  readonly parts: readonly ScanComponent[];
  readonly start: number;
  readonly end: number;
  /** Bit position before and after this scan; `high` 0 on the first scan of a coefficient. */
  readonly high: number;
  readonly low: number;
  /** Byte offset of the scan header. */
  readonly offset: number;
}

/** Where coefficient k of the zigzag order stands in a block; 16 more entries, so that no broken run can leave the block. */
export const ZIGZAG = /* @__PURE__ */ zigzag();

function zigzag(): Uint8Array {
  const order = new Uint8Array(80).fill(63);
  let k = 0;
  for (let sum = 0; sum < 15; sum++) {
    for (let i = 0; i <= sum; i++) {
      const [row, column] = sum % 2 ? [i, sum - i] : [sum - i, i];
      if (row < 8 && column < 8) order[k++] = row * 8 + column;
    }
  }
  return order;
}
