import type { ChannelModel } from "amqplib";

/*
 * amqplib breaks a connection on a message whose headers it cannot decode: a type that it does not know, or tables nested
 * so deep that its recursion ends. Any sender may write them. Here such a header is left out before amqplib decodes the
 * frame, and the message arrives with the others.
 */

/** The part of amqplib's connection that reads frames. It is not in amqplib's types. */
interface FrameReader {
  /** What has been received and not read yet. */
  rest: Buffer;
  /** Reads the next frame and takes it off `rest`, also where its content cannot be decoded; false if there is none. */
  recvFrame(): unknown;
}

const HEADER_FRAME = 2;
const BASIC_CLASS = 60;
const FRAME_END = 0xce;
/** Kind, channel and size before the payload; one byte follows it. */
const FRAME_START = 7;
/** Class, weight and the body's size before the flags of the properties. */
const PROPERTY_FLAGS = 12;
const HAS_CONTENT_TYPE = 0x8000;
const HAS_CONTENT_ENCODING = 0x4000;
const HAS_HEADERS = 0x2000;

/** Deeper tables are left out, where amqplib could not decode the whole. */
const DEEPEST = 32;

/** On the properties of a message: the names of the headers that are left out. Not enumerable. */
const LEFT_OUT = Symbol("the headers that are left out");

/** The names of the headers that are left out, by the properties of a message; undefined where all could be read. */
export function unreadHeaders(properties: object): readonly string[] | undefined {
  return (properties as { readonly [LEFT_OUT]?: readonly string[] })[LEFT_OUT];
}

/**
 * Has a connection read messages whose headers amqplib cannot decode. Does nothing where amqplib is built in another way
 * than is known: then such a message breaks the connection.
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
      const frame = takenOff(before, this.rest);
      const decoded = frame === undefined ? undefined : decodedAnyway(this, recvFrame, frame);
      if (decoded === undefined) throw error;
      return decoded;
    }
  };
}

/** What was read of a buffer; undefined where it was replaced by another, which holds more. */
function takenOff(before: Buffer, rest: Buffer): Buffer | undefined {
  const isTail =
    rest.buffer === before.buffer &&
    rest.length < before.length &&
    rest.byteOffset + rest.length === before.byteOffset + before.length;
  return isTail ? before.subarray(0, before.length - rest.length) : undefined;
}

/** The frame as amqplib decodes it without the headers that it cannot read; undefined where that is not the reason. */
function decodedAnyway(reader: FrameReader, recvFrame: () => unknown, frame: Buffer): object | undefined {
  const headers = headersIn(frame);
  if (headers === undefined) return undefined;
  const { rest } = reader;
  const { readable, names } = split(headers.table);
  const none: Split = { readable: [], names: ["all of them"] };
  // Without any, where amqplib reads less than is known here.
  for (const kept of [{ readable, names }, none]) {
    try {
      reader.rest = withHeaders(frame, headers, kept.readable);
      const decoded = recvFrame.call(reader) as { readonly fields: object };
      Object.defineProperty(decoded.fields, LEFT_OUT, { value: kept.names });
      return decoded;
    } catch {
      // The next has fewer.
    } finally {
      reader.rest = rest;
    }
  }
  return undefined;
}

interface HeaderPlace {
  readonly table: Buffer;
  /** Where in the frame its size is, in four bytes before it. */
  readonly at: number;
}

/** The headers in the frame of a message's properties; undefined if it is another frame, or has none. */
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
  /** The entries that can be read, each with its name, type and value. */
  readonly readable: readonly Buffer[];
  /** The names of the others. */
  readonly names: readonly string[];
}

/** Behind a header of an unknown type nothing can be told apart any more. */
function split(table: Buffer): Split {
  const readable: Buffer[] = [];
  const names: string[] = [];
  let at = 0;
  while (at < table.length) {
    const tagAt = at + 1 + (table[at] as number);
    const end = valueEnd(table, tagAt);
    const name = table.toString("utf8", at + 1, tagAt);
    if (end === undefined) {
      names.push(`${name} and what follows it`);
      break;
    }
    if (isReadable(table, tagAt, end, DEEPEST)) readable.push(table.subarray(at, end));
    else names.push(name);
    at = end;
  }
  return { readable, names };
}

/** How many bytes the value of a type has. */
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

/** Whether everything inside a value can be read, too. */
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
