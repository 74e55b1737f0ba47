/*
 * Where the frames of zstd data begin and end (RFC 8878, section 3.1), without a look into their blocks.
 */

const FRAME = 0xfd2fb528;
/** Of these sixteen, which hold what a reader passes over. */
const SKIPPABLE = 0x184d2a50;
const SKIPPABLE_MASK = 0xfffffff0;
const MAGIC_BYTES = 4;
const SKIPPABLE_HEADER_BYTES = 8;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;
const RLE = 1;

const SINGLE_SEGMENT = 0x20;
const CHECKSUM = 0x04;
/** By the lowest two bits of the descriptor, and by its highest two. */
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;

/** Each costs a call. Whoever compresses in a stream writes blocks, not frames. */
const MAX_FRAMES = 10_000;

/** The frames that hold something, in order. Shares the memory. Throws a `RangeError` for what is no row of frames. */
export function zstdFrames(bytes: Buffer): readonly Buffer[] {
  const frames: Buffer[] = [];
  for (let start = 0; start < bytes.length; ) {
    const magic = bytes.readUInt32LE(start);
    const isSkippable = (magic & SKIPPABLE_MASK) === SKIPPABLE;
    if (!isSkippable && magic !== FRAME) throw new RangeError(`no zstd frame begins at byte ${start}`);
    const end = isSkippable
      ? start + SKIPPABLE_HEADER_BYTES + bytes.readUInt32LE(start + MAGIC_BYTES)
      : frameEnd(bytes, start);
    if (end > bytes.length) throw new RangeError(`the zstd frame at byte ${start} is cut off`);
    if (!isSkippable) frames.push(bytes.subarray(start, end));
    if (frames.length > MAX_FRAMES) throw new RangeError(`there are more than ${MAX_FRAMES} zstd frames`);
    start = end;
  }
  if (frames.length === 0) throw new RangeError("there is no zstd frame");
  return frames;
}

function frameEnd(bytes: Buffer, start: number): number {
  const descriptor = bytes.readUInt8(start + MAGIC_BYTES);
  const isSingle = (descriptor & SINGLE_SEGMENT) !== 0;
  const sizeFlag = descriptor >> 6;
  const contentSizeBytes = sizeFlag === 0 && isSingle ? 1 : (CONTENT_SIZE_BYTES[sizeFlag] ?? 0);
  const windowBytes = isSingle ? 0 : 1;
  let at = start + MAGIC_BYTES + 1 + windowBytes + (DICTIONARY_BYTES[descriptor & 3] ?? 0) + contentSizeBytes;
  for (let isLast = false; !isLast; ) {
    const header = bytes.readUIntLE(at, BLOCK_HEADER_BYTES);
    isLast = (header & 1) === 1;
    const type = (header >> 1) & 3;
    at += BLOCK_HEADER_BYTES + (type === RLE ? 1 : header >> 3);
  }
  return (descriptor & CHECKSUM) === 0 ? at : at + CHECKSUM_BYTES;
}
