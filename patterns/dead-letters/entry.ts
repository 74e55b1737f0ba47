import { isUtf8 } from "node:buffer";
import type { IncomingMessage } from "../../core/adapter.ts";
import { readBody } from "../../core/consume/run-handler.ts";
import { userHeaders } from "../../core/system-headers.ts";
import { type DeadLetter, isBeyondReading, type Source } from "./dead-letter.ts";

/** A body in JSON. */
export interface DeadLetterBody {
  /** The text itself, or its bytes in base64; see {@link DeadLetterBody.bodyEncoding}. */
  readonly body: string;
  /** `text` for UTF-8 without control characters (other than tab and line ends), else `base64`. */
  readonly bodyEncoding: "text" | "base64";
  /** Whether only the beginning of the body is here. */
  readonly bodyCut: boolean;
}

/**
 * A message in the dead letters. Plain JSON, the same on every broker; what is not known is null. Times are ISO 8601 in UTC.
 */
export interface DeadLetterEntry extends DeadLetterBody {
  /** Names this one entry, for filters: the same in every scan, and another when the message fails again. */
  readonly id: string;
  /** The message's own id. */
  readonly messageId: string;
  /** Where it was to be handled: `orders`, `order.placed..billing`. */
  readonly destination: string;
  readonly key: string | null;
  readonly routingKey: string | null;
  /**
   * `attempts` (the handler failed as often as it may), `invalid` (it did not decode, or the schema refused it), `rejected`
   * (the handler said so), `crashed` (those who held it died), `expired`; `unknown` for what another sender put here.
   */
  readonly reason: string;
  readonly errorClass: string | null;
  readonly error: string | null;
  /** How often a handler was started on it since it was sent, or sent back. */
  readonly attempts: number | null;
  readonly firstFailedAt: string | null;
  readonly lastFailedAt: string | null;
  readonly firstPublishedAt: string | null;
  /** How often it was sent back from the dead letters before. */
  readonly replays: number;
  /** The run that sent it back last. */
  readonly replayRun: string | null;
  /** The id of the message that this is an edited copy of. */
  readonly editedFrom: string | null;
  /** What the message lost on its way here, as headers that were over the limits; null if nothing. */
  readonly cut: string | null;
  /**
   * Where the message is stored, if this is only a reference to it; null where it is the message itself. Where a single one
   * can be read there, its headers and its body are in this entry; else the body says what it refers to.
   */
  readonly reference: string | null;
  /** The fingerprint of its failure, as `groups` has it. */
  readonly group: string;
  /** The publisher's headers. */
  readonly headers: Readonly<Record<string, string>>;
  readonly contentType: string | null;
  /** Bytes of the body. */
  readonly size: number;
  /**
   * Whether the destination's codec and schema take the body today; `unknown` where the codec does and no schema is at
   * hand.
   */
  readonly valid: Validity;
}

/** Whether a body is taken; `unknown` where the codec reads it, and there is no schema to ask. */
export type Validity = boolean | "unknown";

/**
 * An entry with so much of its body. A promise only where the schema is asynchronous, or the message is elsewhere. That one
 * rejects if `mustRead`, and the message could be read by another try; else what cannot be read is left out.
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
    if (mustRead && !isBeyondReading(error)) throw error;
    return itself();
  });
}

/** The same with the content of a message that is at hand: the dead letter's own, or the one that it refers to. */
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

/** Whether the destination takes the body today. A promise only where the schema is asynchronous. */
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

/** What a terminal might obey, or show as something else than it is: controls, line separators, marks of direction. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is searched for
const UNPRINTABLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;
const ESCAPED = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** A body as text where it is plain text, else as base64; at most so many bytes of it. */
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

/** The last end of a character at or before a place in UTF-8. */
function characterEnd(bytes: Buffer, at: number): number {
  let end = at;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return end;
}

/**
 * JSON on one line that is safe to print: what a terminal might obey is escaped, also in headers and errors. `JSON.parse`
 * gives back the same.
 */
export function stringifyEntry(entry: object): string {
  return JSON.stringify(entry).replace(
    ESCAPED,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
