/** Reads of multi-byte integers and names. Callers check the range first: past the end a byte counts as 0. */

export const u16be = (b: Uint8Array, i: number): number => ((b[i] ?? 0) << 8) | (b[i + 1] ?? 0);
export const u32be = (b: Uint8Array, i: number): number => u16be(b, i) * 0x10000 + u16be(b, i + 2);
export const u16le = (b: Uint8Array, i: number): number => ((b[i + 1] ?? 0) << 8) | (b[i] ?? 0);
export const u24le = (b: Uint8Array, i: number): number => ((b[i + 2] ?? 0) << 16) | u16le(b, i);
export const u32le = (b: Uint8Array, i: number): number => u16le(b, i + 2) * 0x10000 + u16le(b, i);

/** `length` bytes as Latin-1 text; shorter at the end of the bytes. */
export function latin1(b: Uint8Array, start: number, length: number): string {
  let text = '';
  for (let i = start; i < Math.min(start + length, b.length); i++) text += String.fromCharCode(b[i]!);
  return text;
}

/** All pieces in one array, followed by `padding` zeros. */
export function join(pieces: readonly Uint8Array[], padding = 0): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, padding));
  let filled = 0;
  for (const piece of pieces) {
    whole.set(piece, filled);
    filled += piece.length;
  }
  return whole;
}
