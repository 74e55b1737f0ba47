import type { HeaderToWrite, RecordToWrite } from "./contract.ts";
import { sizeOfLength, writeLength } from "./varint.ts";

/** Attributes and the difference to the timestamp of the batch, both 0. */
const FIXED_BYTES = 2;
/** Up to here a loop is faster than a call into Node. */
const SHORT_TEXT = 48;
const NOT_ASCII = -1;
/** The length of what is null. */
const NULL_BYTES = 1;

/** How many bytes a record takes in a batch, its headers taken for ASCII. */
export function recordSize(record: RecordToWrite, offsetDelta: number): number {
  const body = bodySize(record, offsetDelta);
  return sizeOfLength(body) + body;
}

/** How many bytes a record takes in a batch, whatever its headers are. */
export function exactRecordSize(record: RecordToWrite, offsetDelta: number): number {
  const body = exactBodySize(record, offsetDelta);
  return sizeOfLength(body) + body;
}

/** Writes a record; there must be room for its `recordSize`. Returns the position behind it, or -1 if it is not ASCII. */
export function writeAsciiRecord(bytes: Buffer, position: number, record: RecordToWrite, offsetDelta: number): number {
  let at = writePrefix(bytes, position, record, offsetDelta, bodySize(record, offsetDelta));
  const { headers } = record;
  for (let index = 0; index < headers.length; index++) {
    const [name, value] = headers[index] as HeaderToWrite;
    at = writeAscii(bytes, at, name);
    if (at === NOT_ASCII) return NOT_ASCII;
    at = typeof value === "string" ? writeAscii(bytes, at, value) : writeBytes(bytes, at, value);
    if (at === NOT_ASCII) return NOT_ASCII;
  }
  return at;
}

/** Writes a record; there must be room for its `exactRecordSize`. Returns the position behind it. */
export function writeRecord(bytes: Buffer, position: number, record: RecordToWrite, offsetDelta: number): number {
  let at = writePrefix(bytes, position, record, offsetDelta, exactBodySize(record, offsetDelta));
  for (const [name, value] of record.headers) {
    at = writeBytes(bytes, at, Buffer.from(name));
    at = writeBytes(bytes, at, typeof value === "string" ? Buffer.from(value) : value);
  }
  return at;
}

function bodySize(record: RecordToWrite, offsetDelta: number): number {
  const { headers } = record;
  let size = sizeWithoutHeaders(record, offsetDelta);
  for (let index = 0; index < headers.length; index++) {
    const [name, value] = headers[index] as HeaderToWrite;
    size += sizeOfLength(name.length) + name.length;
    size += value === undefined ? NULL_BYTES : sizeOfLength(value.length) + value.length;
  }
  return size;
}

function exactBodySize(record: RecordToWrite, offsetDelta: number): number {
  let size = sizeWithoutHeaders(record, offsetDelta);
  for (const [name, value] of record.headers) {
    const length = Buffer.byteLength(name);
    size += sizeOfLength(length) + length;
    size += sizeOfBytes(typeof value === "string" ? Buffer.from(value) : value);
  }
  return size;
}

function sizeWithoutHeaders({ key, value, headers }: RecordToWrite, offsetDelta: number): number {
  return FIXED_BYTES + sizeOfLength(offsetDelta) + sizeOfBytes(key) + sizeOfBytes(value) + sizeOfLength(headers.length);
}

function sizeOfBytes(bytes: Uint8Array | undefined): number {
  return bytes === undefined ? NULL_BYTES : sizeOfLength(bytes.length) + bytes.length;
}

/** Everything before the headers themselves. */
function writePrefix(
  bytes: Buffer,
  position: number,
  { key, value, headers }: RecordToWrite,
  offsetDelta: number,
  body: number,
): number {
  let at = writeLength(bytes, position, body);
  bytes[at++] = 0;
  bytes[at++] = 0;
  at = writeLength(bytes, at, offsetDelta);
  at = writeBytes(bytes, at, key);
  at = writeBytes(bytes, at, value);
  return writeLength(bytes, at, headers.length);
}

function writeBytes(bytes: Buffer, position: number, written: Uint8Array | undefined): number {
  if (written === undefined) return writeLength(bytes, position, -1);
  const at = writeLength(bytes, position, written.length);
  bytes.set(written, at);
  return at + written.length;
}

function writeAscii(bytes: Buffer, position: number, text: string): number {
  const { length } = text;
  const at = writeLength(bytes, position, length);
  if (length <= SHORT_TEXT) {
    for (let index = 0; index < length; index++) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) return NOT_ASCII;
      bytes[at + index] = code;
    }
    return at + length;
  }
  if (Buffer.byteLength(text) !== length) return NOT_ASCII;
  bytes.write(text, at, "latin1");
  return at + length;
}
