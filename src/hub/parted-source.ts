/**
 * A large file that comes in parts: the few that are being read are in memory, the next ones are on their way. So a checkpoint goes from
 * the network into the backend without ever being in memory as a whole. Runs wherever JavaScript runs.
 */
import type { ByteSource } from '../checkpoint/byte-source.js';

/** Bytes of a part: one request each. */
export const PART_BYTES = 4 << 20;
/** Parts in memory, those on their way included. */
const KEPT_PARTS = 4;
/** Parts asked for before they are read, once reading has left the first part, where the header is. */
export const PARTS_AHEAD = 2;

export const partCount = (size: number): number => Math.ceil(size / PART_BYTES);
export const partLength = (size: number, index: number): number => Math.min(PART_BYTES, size - index * PART_BYTES);

interface Part {
  readonly bytes: Promise<Uint8Array<ArrayBuffer>>;
  /** Reads that wait for it. */
  readers: number;
}

/**
 * The file of `size` bytes whose parts `load` brings. A part that failed is asked for again when it is read again. `load` may fill and give back
 * `spare`, the memory of a part that nobody reads any more: new memory for each would wait to be collected, tens of megabytes of it.
 */
export function partedSource(
  size: number,
  load: (index: number, spare: ArrayBuffer | undefined) => Promise<Uint8Array<ArrayBuffer>>,
): ByteSource & Required<Pick<ByteSource, 'readInto'>> {
  const kept = new Map<number, Part>();
  let spare: ArrayBuffer | undefined;
  /** Forgets the part that was not used for the longest time. */
  const evict = (): void => {
    const [index, oldest] = kept.entries().next().value!;
    kept.delete(index);
    oldest.bytes.then(
      ({ buffer }) => {
        if (oldest.readers === 0) spare = buffer;
      },
      () => undefined,
    );
  };
  const begin = (index: number): Part => {
    const given = spare;
    spare = undefined;
    const begun: Part = { bytes: load(index, given), readers: 0 };
    begun.bytes.catch(() => kept.get(index) === begun && kept.delete(index));
    return begun;
  };
  const part = (index: number): Part => {
    const known = kept.get(index);
    const found = known ?? begin(index);
    kept.delete(index);
    kept.set(index, found); // the last in the order of use
    if (known === undefined && kept.size > KEPT_PARTS) evict();
    return found;
  };
  const readInto = async (start: number, target: Uint8Array<ArrayBuffer>): Promise<void> => {
    for (let done = 0; done < target.length; ) {
      const position = start + done;
      const index = Math.floor(position / PART_BYTES);
      const wanted = part(index);
      wanted.readers++;
      if (index > 0) for (let n = 1; n <= PARTS_AHEAD && index + n < partCount(size); n++) part(index + n);
      try {
        const piece = (await wanted.bytes).subarray(position - index * PART_BYTES).subarray(0, target.length - done);
        target.set(piece, done);
        done += piece.length;
      } finally {
        wanted.readers--;
      }
    }
  };
  const clamp = (at: number) => Math.min(Math.max(0, at), size);
  return {
    size,
    readInto,
    slice: (start, end) => ({
      async arrayBuffer() {
        const target = new Uint8Array(Math.max(0, clamp(end) - clamp(start)));
        await readInto(clamp(start), target);
        return target.buffer;
      },
    }),
  };
}
