/** Bytes, operands and errors of a pickle. Every read is checked against the end before anything is made of it. */

/** Makes the error at the offset of the opcode that is being run. */
export type PickleFail = (code: string, detail: string, unsupported?: boolean) => Error;
/** Makes the error at an offset of the bytes. */
export type PickleFault = (code: string, detail: string, offset: number, unsupported: boolean) => Error;

const MAX_LINE = 256;

export interface PickleReader {
  readonly fail: PickleFail;
  /** The next opcode. */
  opcode(): number;
  /** A little-endian number of 1, 2 or 4 bytes, without sign. */
  unsigned(size: 1 | 2 | 4): number;
  bytes(length: number): Uint8Array<ArrayBuffer>;
  /** UTF-8, checked. */
  text(length: number): string;
  /** UTF-8 up to a line end. */
  line(): string;
  /** Where the next byte is. */
  position(): number;
}

export function pickleReader(bytes: Uint8Array<ArrayBuffer>, start: number, fault: PickleFault): PickleReader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let opcodeAt = start;
  let at = start;

  const fail: PickleFail = (code, detail, unsupported = false) => {
    return fault(code, detail, opcodeAt, unsupported);
  };

  function take(length: number): number {
    if (length > bytes.length - at)
      throw fail('pickle-truncated', `${length} bytes wanted, ${bytes.length - at} are left`);
    at += length;
    return at - length;
  }

  function decode(from: number, to: number): string {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(from, to));
    } catch {
      throw fail('not-utf8', 'a string that is not UTF-8');
    }
  }

  function unsigned(size: 1 | 2 | 4): number {
    const from = take(size);
    if (size === 1) return view.getUint8(from);
    return size === 2 ? view.getUint16(from, true) : view.getUint32(from, true);
  }

  return {
    fail,
    unsigned,
    opcode: () => {
      opcodeAt = at;
      return unsigned(1);
    },
    bytes: (length) => {
      const from = take(length);
      return bytes.subarray(from, from + length);
    },
    text: (length) => {
      const from = take(length);
      return decode(from, from + length);
    },
    line: () => {
      const end = bytes.indexOf(0x0a, at);
      if (end < 0) throw fail('pickle-truncated', 'a line does not end');
      if (end - at > MAX_LINE) throw fail('pickle-size', `a name of ${end - at} bytes`);
      const from = at;
      at = end + 1;
      return decode(from, end);
    },
    position: () => at,
  };
}
