import type { ChannelModel } from "amqplib";

/*
 * amqplib breaks a connection on a message with headers that it cannot decode: an unknown type, or tables nested too
 * deep for its recursion. Any sender may write them. This file removes such headers before amqplib decodes the frame,
 * so that the message arrives with the other headers.
 */

/** The part of amqplib's connection that reads frames; not in amqplib's types. */
interface FrameReader {
  /** Received bytes that are not read yet. */
  rest: Buffer;
  /** Reads the next frame and removes it from `rest`, even if decoding fails; false if there is none. */
  recvFrame(): unknown;
}

const HEADER_FRAME = 2;
const BASIC_CLASS = 60;
const FRAME_END = 0xce;
/** Kind, channel and size come before the payload; one byte follows it. */
const FRAME_START = 7;
/** Class, weight and body size come before the flags of the properties. */
const PROPERTY_FLAGS = 12;
const HAS_CONTENT_TYPE = 0x8000;
const HAS_CONTENT_ENCODING = 0x4000;
const HAS_HEADERS = 0x2000;

/** Deeper tables are removed if amqplib could not decode the whole frame. */
const MAX_DEPTH = 32;

/** A property of a message's properties: the names of the removed headers. Not enumerable. */
const LEFT_OUT = Symbol("the headers that are left out");

/** The names of the removed headers; undefined if all could be read. */
export function unreadHeaders(properties: object): readonly string[] | undefined {
  return (properties as { readonly [LEFT_OUT]?: readonly string[] })[LEFT_OUT];
}

/**
 * Lets a connection read messages whose headers amqplib cannot decode. Does nothing if amqplib's internals have
 * changed: then such a message breaks the connection.
 */
export function guardHeaders(model: ChannelModel): void {
  const reader = model.connection as unknown as Partial<FrameReader>;
  const { recvFrame } = reader;
  if (typeof recvFrame !== "function" || !Buffer.isBuffer(reader.rest)) return;
  reader.recvFrame = function (this: FrameReader): unknown {
    const before = this.rest;
    try {
      return recvFrame.call(this);
    } catch (error) {
      const frame = readBytes(before, this.rest);
      const decoded = frame === undefined ? undefined : decodeWithoutUnreadable(this, recvFrame, frame);
      if (decoded === undefined) throw error;
      return decoded;
    }
  };
}

/** The bytes that were read; undefined if the buffer was replaced by another one, which holds more. */
function readBytes(before: Buffer, rest: Buffer): Buffer | undefined {
  const isTail =
    rest.buffer === before.buffer &&
    rest.length < before.length &&
    rest.byteOffset + rest.length === before.byteOffset + before.length;
  return isTail ? before.subarray(0, before.length - rest.length) : undefined;
}

/** The frame as amqplib decodes it without unreadable headers; undefined if headers are not the reason. */
function decodeWithoutUnreadable(reader: FrameReader, recvFrame: () => unknown, frame: Buffer): object | undefined {
  const headers = headersIn(frame);
  if (headers === undefined) return undefined;
  const { rest } = reader;
  const { readable, names } = split(headers.table);
  const none: Split = { readable: [], names: ["all of them"] };
  // The second try has no headers, in case amqplib reads fewer types than this file.
  for (const kept of [{ readable, names }, none]) {
    try {
      reader.rest = withHeaders(frame, headers, kept.readable);
      const decoded = recvFrame.call(reader) as { readonly fields: object };
      Object.defineProperty(decoded.fields, LEFT_OUT, { value: kept.names });
      return decoded;
    } catch {
      // The next try has fewer headers.
    } finally {
      reader.rest = rest;
    }
  }
  return undefined;
}

interface HeaderPlace {
  readonly table: Buffer;
  /** The offset in the frame of the table's size, which has four bytes. */
  readonly at: number;
}

/** The headers in a frame of message properties; undefined if it is another frame or has no headers. */
function headersIn(frame: Buffer): HeaderPlace | undefined {
  const end = frame.length - 1;
  let at = FRAME_START + PROPERTY_FLAGS;
  if (frame[0] !== HEADER_FRAME || end < at + 2 || frame.readUInt16BE(FRAME_START) !== BASIC_CLASS) return undefined;
  const flags = frame.readUInt16BE(at);
  at += 2;
  for (const flag of [HAS_CONTENT_TYPE, HAS_CONTENT_ENCODING]) if (flags & flag) at += 1 + (frame[at] ?? 0);
  if ((flags & HAS_HEADERS) === 0 || at + 4 > end) return undefined;
  const tableEnd = at + 4 + frame.readUInt32BE(at);
  return tableEnd > end ? undefined : { table: frame.subarray(at + 4, tableEnd), at };
}

function withHeaders(frame: Buffer, { table, at }: HeaderPlace, entries: readonly Buffer[]): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32BE(entries.reduce((sum, { length }) => sum + length, 0));
  const behind = frame.subarray(at + 4 + table.length, frame.length - 1);
  const shorter = Buffer.concat([frame.subarray(0, at), size, ...entries, behind, Buffer.of(FRAME_END)]);
  shorter.writeUInt32BE(shorter.length - FRAME_START - 1, 3);
  return shorter;
}

interface Split {
  /** Readable entries, each with name, type and value. */
  readonly readable: readonly Buffer[];
  /** The names of the others. */
  readonly names: readonly string[];
}

/** Splits a table. After a header of an unknown type, the following ones cannot be separated. */
function split(table: Buffer): Split {
  const readable: Buffer[] = [];
  const names: string[] = [];
  let at = 0;
  while (at < table.length) {
    const tagAt = at + 1 + (table[at] as number);
    const end = valueEnd(table, tagAt);
    const name = table.toString("utf8", at + 1, tagAt);
    if (end === undefined) {
      names.push(`${name} and all after it`);
      break;
    }
    if (isReadable(table, tagAt, end, MAX_DEPTH)) readable.push(table.subarray(at, end));
    else names.push(name);
    at = end;
  }
  return { readable, names };
}

/** The bytes of a value, by its type. */
const SIZES: ReadonlyMap<number, number> = new Map(
  Object.entries({ V: 0, b: 1, B: 1, t: 1, s: 2, u: 2, I: 4, i: 4, f: 4, D: 5, l: 8, T: 8, d: 8 }).map(
    ([tag, size]) => [tag.charCodeAt(0), size] as const,
  ),
);
const [TEXT, BYTES, TABLE, LIST] = [..."SxFA"].map((tag) => tag.charCodeAt(0));

/** The end of the value with this type tag; undefined for an unknown type or a value that is cut off. */
function valueEnd(bytes: Buffer, tagAt: number): number | undefined {
  if (tagAt >= bytes.length) return undefined;
  const tag = bytes[tagAt] as number;
  const at = tagAt + 1;
  let size = SIZES.get(tag);
  if (tag === TEXT || tag === BYTES || tag === TABLE || tag === LIST) {
    if (at + 4 > bytes.length) return undefined;
    size = 4 + bytes.readUInt32BE(at);
  }
  return size === undefined || at + size > bytes.length ? undefined : at + size;
}

/** Whether all values inside a value can be read too. */
function isReadable(bytes: Buffer, tagAt: number, end: number, depth: number): boolean {
  const tag = bytes[tagAt];
  if (tag !== TABLE && tag !== LIST) return true;
  if (depth === 0) return false;
  const inner = bytes.subarray(tagAt + 5, end);
  let at = 0;
  while (at < inner.length) {
    const innerTagAt = tag === TABLE ? at + 1 + (inner[at] as number) : at;
    const innerEnd = valueEnd(inner, innerTagAt);
    if (innerEnd === undefined || !isReadable(inner, innerTagAt, innerEnd, depth - 1)) return false;
    at = innerEnd;
  }
  return true;
}
