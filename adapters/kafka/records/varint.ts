/** How many bytes a length takes as a varint. */
export function sizeOfLength(length: number): number {
  return length < 0x40 ? 1 : length < 0x2000 ? 2 : length < 0x10_0000 ? 3 : length < 0x800_0000 ? 4 : 5;
}

/** Writes a length, count or offset as a zigzag varint; -1 stands for nothing. Returns the position behind it. */
export function writeLength(bytes: Uint8Array, position: number, length: number): number {
  let at = position;
  let rest = ((length << 1) ^ (length >> 31)) >>> 0;
  while (rest > 0x7f) {
    bytes[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  return at;
}
