import { isUtf8 } from "node:buffer";
import type { IncomingMessage } from "../../core/adapter.ts";
import { readBody } from "../../core/consume/run-handler.ts";
import { userHeaders } from "../../core/system-headers.ts";
import { type DeadLetter, isUnreadable, type Source } from "./dead-letter.ts";

/** A body in JSON. */
export interface DeadLetterBody {
  /** The text, or its bytes in base64; see {@link DeadLetterBody.bodyEncoding}. */
  readonly body: string;
  /** `text` for UTF-8 without control characters (except tab and line ends), else `base64`. */
  readonly bodyEncoding: "text" | "base64";
  /** Whether the body is truncated. */
  readonly bodyCut: boolean;
}

/**
 * A message in the dead letters. Plain JSON, the same on every broker. Unknown values are null. Times are ISO 8601 in UTC.
 */
export interface DeadLetterEntry extends DeadLetterBody {
  /** The id of this entry, for filters. It is the same in every scan; a message that fails again gets another one. */
  readonly id: string;
  /** The message's own id. */
  readonly messageId: string;
  /** The destination that handled it: `orders`, `order.placed..billing`. */
  readonly destination: string;
  readonly key: string | null;
  readonly routingKey: string | null;
  /**
   * - `attempts`: the last attempt failed.
   * - `invalid`: the codec or the schema refused the body.
   * - `rejected`: the handler returned `deadLetter()`.
   * - `crashed`: its consumers crashed.
   * - `expired`: its time to live passed.
   * - `unknown`: a foreign sender put it here.
   */
  readonly reason: string;
  readonly errorClass: string | null;
  readonly error: string | null;
  /** How often a handler started on it since it was sent, or replayed. */
  readonly attempts: number | null;
  readonly firstFailedAt: string | null;
  readonly lastFailedAt: string | null;
  readonly firstPublishedAt: string | null;
  /** How often it was replayed. */
  readonly replays: number;
  /** The run that replayed it last. */
  readonly replayRun: string | null;
  /** The id of the original, if this is an edited copy. */
  readonly editedFrom: string | null;
  /** What the message lost before it got here, such as headers over the limits; null if nothing. */
  readonly cut: string | null;
  /**
   * The location of the message, if this entry is only a reference; otherwise null. If it refers to one readable message,
   * this entry has its headers and body. Otherwise the body describes the reference.
   */
  readonly reference: string | null;
  /** The fingerprint of its failure, for a filter: `group = …`. */
  readonly group: string;
  /** The publisher's headers. */
  readonly headers: Readonly<Record<string, string>>;
  readonly contentType: string | null;
  /** The size of the body in bytes. */
  readonly size: number;
  /**
   * Whether the destination's codec and schema accept the body now; `unknown` if the codec decodes it and there is no
   * schema.
   */
  readonly valid: Validity;
}

/** Whether a body is accepted; `unknown` if the codec decodes it and there is no schema. */
export type Validity = boolean | "unknown";

/**
 * Makes an entry with at most `bodyBytes` of its body. Returns a promise only if the schema is asynchronous or the entry is a
 * reference. A reference that cannot be read now is left unresolved, or, with `mustRead`, rejects.
 */
export function entryOf(
  letter: DeadLetter,
  source: Source,
  bodyBytes: number,
  mustRead = false,
): DeadLetterEntry | Promise<DeadLetterEntry> {
  if (letter.reference === undefined) return entryWith(letter, letter.message, source, bodyBytes);
  const itself = (): DeadLetterEntry => ({ ...known(letter, letter.message, bodyBytes), valid: false });
  const read = source.originals.use(letter, (messages) => {
    const [message, ...more] = messages;
    return message === undefined || more.length > 0 ? itself() : entryWith(letter, message, source, bodyBytes);
  });
  return read.catch((error: unknown) => {
    if (mustRead && !isUnreadable(error)) throw error;
    return itself();
  });
}

/** Makes an entry with the given message: the dead letter's own, or the one that it refers to. */
export function entryWith(
  letter: DeadLetter,
  message: IncomingMessage,
  source: Source,
  bodyBytes: number,
): DeadLetterEntry | Promise<DeadLetterEntry> {
  const entry = known(letter, message, bodyBytes);
  const valid = isValid({ message }, source);
  return valid instanceof Promise ? valid.then((is) => ({ ...entry, valid: is })) : { ...entry, valid };
}

function known(letter: DeadLetter, message: IncomingMessage, bodyBytes: number): Omit<DeadLetterEntry, "valid"> {
  return {
    id: letter.id,
    messageId: message.id,
    destination: letter.destination,
    key: message.key ?? null,
    routingKey: message.routingKey ?? null,
    reason: letter.reason,
    errorClass: letter.errorClass ?? null,
    error: letter.error ?? null,
    attempts: letter.attempts ?? null,
    firstFailedAt: isoTime(letter.firstFailedAt),
    lastFailedAt: isoTime(letter.lastFailedAt),
    firstPublishedAt: isoTime(letter.firstPublishedAt),
    replays: letter.replays,
    replayRun: letter.replayRun ?? null,
    editedFrom: letter.editedFrom ?? null,
    cut: letter.cut ?? null,
    reference: letter.reference ?? null,
    group: letter.group,
    headers: userHeaders(message.headers),
    contentType: message.contentType ?? null,
    size: message.body.length,
    ...entryBody(message.body, bodyBytes),
  };
}

/** Whether the destination accepts the body now. A promise only if the schema is asynchronous. */
export function isValid(
  { message }: Pick<DeadLetter, "message">,
  reading: Pick<Source, "codec" | "schema" | "tombstones">,
): Validity | Promise<Validity> {
  const taken = reading.schema === undefined ? "unknown" : true;
  try {
    const read = readBody(message, reading);
    if (!(read instanceof Promise)) return taken;
    return read.then(
      () => taken,
      () => false,
    );
  } catch {
    return false;
  }
}

function isoTime(milliseconds: number | undefined): string | null {
  return milliseconds === undefined ? null : new Date(milliseconds).toISOString();
}

/** Characters that terminals may interpret: controls, line separators, marks of direction. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is searched for
const UNPRINTABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
const ESCAPED = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** Returns a body as text if it is plain text, else as base64; at most `mostBytes` of it. */
export function entryBody(body: Uint8Array, mostBytes: number): DeadLetterBody {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const isText = isUtf8(bytes);
  const bodyCut = bytes.length > mostBytes;
  const shown = bodyCut ? bytes.subarray(0, isText ? characterEnd(bytes, mostBytes) : mostBytes) : bytes;
  if (isText) {
    const text = shown.toString("utf8");
    if (!UNPRINTABLE.test(text)) return { body: text, bodyEncoding: "text", bodyCut };
  }
  return { body: shown.toString("base64"), bodyEncoding: "base64", bodyCut };
}

/** The last start of a character at or before an offset in UTF-8. */
function characterEnd(bytes: Buffer, at: number): number {
  let end = at;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return end;
}

/**
 * Serialises as JSON on one line that is safe to print: characters that terminals may interpret are escaped, also in
 * headers and errors. `JSON.parse` returns the same value.
 */
export function stringifyEntry(entry: object): string {
  return JSON.stringify(entry).replace(
    ESCAPED,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
