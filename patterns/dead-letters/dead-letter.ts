import { createHash, type Hash } from "node:crypto";
import type { IncomingMessage } from "../../core/adapter.ts";
import {
  type Address,
  addressName,
  type DeadLettersAddress,
  type TopicAddress,
  type WorkAddress,
} from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { checkName } from "../../core/checks.ts";
import type { Codec } from "../../core/codec.ts";
import type { Destination, Queue, Tombstones, Topic } from "../../core/destination.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import { shownReference } from "../../core/foreign.ts";
import { HEADER, HEADERS_NOT_READ, numberHeader, publishedAt, userHeaders } from "../../core/system-headers.ts";

const LENGTH = 12;
const LONGEST = 1_024;

/**
 * Patterns of values that differ between failures of one kind, applied in order. Each value is replaced by the name of its
 * kind, as in the fingerprints of Sentry and Honeybadger.
 */
const VALUES: readonly (readonly [pattern: RegExp, kind: string])[] = [
  [/"(?:[^"\\]|\\.)*"|`[^`]*`|(?<![\p{L}\p{N}])'[^']*'(?![\p{L}\p{N}])/gu, "<text>"],
  [/\b[a-z][a-z0-9+.-]*:\/\/[^\s,;)\]}>]+/gi, "<url>"],
  [/[\w.+-]+@[\w-]+(?:\.[\w-]+)+/g, "<address>"],
  [/\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b/gi, "<id>"],
  [/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?/g, "<time>"],
  [/\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b/g, "<address>"],
  [/(?<![\w:])\[?(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?:\]:\d+|\])?/gi, "<address>"],
  [/\b[\w-]+(?:\.[\w-]+)+:\d+\b|\blocalhost(?::\d+)?\b/gi, "<address>"],
  [/\b0x[0-9a-f]+\b/gi, "<hex>"],
  [/\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}\b/gi, "<hex>"],
  [/(?:(?<!\w)[+-])?\d+(?:[.,_]\d+)*(?:e[+-]?\d+)?/gi, "<n>"],
];

/** Replaces values in an error's message by the names of their kinds, and joins white space; reads 1,024 characters. */
export function normalisedError(message: string): string {
  let text = message.slice(0, LONGEST);
  for (const [pattern, kind] of VALUES) text = text.replace(pattern, kind);
  return text.replace(/\s+/g, " ").trim();
}

/**
 * Returns the fingerprint of a failure: the first 12 hexadecimal digits of the SHA-256 of destination, error class and
 * normalised message. It is the same in every process and on every broker.
 */
export function fingerprint(destination: string, errorClass: string | undefined, error: string | undefined): string {
  const parts = [destination, errorClass ?? "", normalisedError(error ?? "")];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, LENGTH);
}

const DIGEST_BYTES = 16;
const FIELD_END = "\n";

/** A message in the dead letters, with the data of its headers. Ids are computed at first use. */
export class DeadLetter {
  readonly message: IncomingMessage;
  /** The destination that handled it: `orders`, `order.placed..billing`. */
  readonly destination: string;
  #id: string | undefined;
  #content: string | undefined;
  #group: string | undefined;

  constructor(message: IncomingMessage, destination: string) {
    this.message = message;
    this.destination = destination;
  }

  /**
   * The id of this entry: a digest of the whole message, the same in every scan and on every broker. A message that is
   * dead-lettered again gets another id. Equal copies have the same id.
   */
  get id(): string {
    this.#id ??= digestOf(this.message, this.message.headers);
    return this.#id;
  }

  /** A digest of what copies of one message share: id, body and the publisher's headers. */
  get content(): string {
    this.#content ??= digestOf(this.message, userHeaders(this.message.headers));
    return this.#content;
  }

  /** The fingerprint of its failure. */
  get group(): string {
    this.#group ??= fingerprint(this.destination, this.errorClass, this.error);
    return this.#group;
  }

  get reason(): string {
    return this.#header(HEADER.deadReason) ?? "unknown";
  }

  get errorClass(): string | undefined {
    return this.#header(HEADER.deadErrorClass);
  }

  get error(): string | undefined {
    return this.#header(HEADER.deadError);
  }

  get attempts(): number | undefined {
    return this.#number(HEADER.deadAttempts) ?? this.#number(HEADER.attempts);
  }

  /** How often it was replayed. */
  get replays(): number {
    return numberHeader(this.message.headers, HEADER.replays, 0);
  }

  get replayRun(): string | undefined {
    return this.#header(HEADER.replayRun);
  }

  get editedFrom(): string | undefined {
    return this.#header(HEADER.editedFrom);
  }

  /** The location of the message that this one refers to; undefined if it is the message itself. */
  get reference(): string | undefined {
    return this.#header(HEADER.deadReference);
  }

  /** Names what the message lost before it got here. */
  get cut(): string | undefined {
    return this.#header(HEADER.cut) ?? this.#header(HEADERS_NOT_READ);
  }

  /** Milliseconds since 1970. */
  get firstFailedAt(): number | undefined {
    return this.#time(HEADER.deadFirstAt);
  }

  /** Milliseconds since 1970. */
  get lastFailedAt(): number | undefined {
    return this.#time(HEADER.deadLastAt);
  }

  /** Milliseconds since 1970; undefined if unknown. */
  get firstPublishedAt(): number | undefined {
    return publishedAt(this.message.headers, this.message.id) ?? this.message.sentAt;
  }

  /** What entries are ordered by: the time of the last failure, or else of the publishing. */
  get time(): number {
    return this.lastFailedAt ?? this.firstPublishedAt ?? 0;
  }

  #header(name: string): string | undefined {
    return this.message.headers[name];
  }

  #number(name: string): number | undefined {
    const value = numberHeader(this.message.headers, name, -1);
    return value < 0 ? undefined : value;
  }

  #time(name: string): number | undefined {
    const value = Date.parse(this.#header(name) ?? "");
    return Number.isNaN(value) ? undefined : value;
  }
}

function digestOf(message: IncomingMessage, headers: Readonly<Record<string, string>>): string {
  const hash = createHash("sha256");
  for (const field of [message.id, message.key, message.routingKey, message.contentType]) update(hash, field);
  for (const name of Object.keys(headers).sort()) {
    update(hash, name);
    update(hash, headers[name]);
  }
  hash.update(FIELD_END);
  hash.update(message.body);
  return hash.digest().subarray(0, DIGEST_BYTES).toString("base64url");
}

/** Writes the length before the field, so that adjacent fields stay distinct. */
function update(hash: Hash, field: string | undefined): void {
  hash.update(field === undefined ? "-" : `${field.length}:${field}`);
}

const UNREADABLE: readonly MessagingErrorCode[] = ["not-found", "invalid", "unsupported", "too-large"];

/**
 * Reads the messages that dead letters refer to: messages that were too large to copy. It reads them one after another,
 * so that one is in memory at a time.
 */
export class Originals {
  readonly #internals: Pick<BrokerInternals, "adapter">;
  readonly #of: DeadLettersAddress;
  #last: Promise<unknown> = Promise.resolve();

  constructor(internals: Pick<BrokerInternals, "adapter">, of: DeadLettersAddress) {
    this.#internals = internals;
    this.#of = of;
  }

  /**
   * Calls `use` with the messages that a dead letter refers to. `use` must not keep them. Rejects if they are gone or
   * cannot be read, and as `use` does.
   */
  use<Result>(
    letter: DeadLetter,
    use: (messages: readonly IncomingMessage[]) => Result | Promise<Result>,
  ): Promise<Result> {
    const used = this.#last.then(async () => use(await this.#resolve(letter)));
    this.#last = used.catch(() => {});
    return used;
  }

  #resolve({ message, reference }: DeadLetter): Promise<readonly IncomingMessage[]> {
    const { adapter } = this.#internals;
    const found = adapter.resolve?.(this.#of, message);
    if (found !== undefined) return found;
    throw new MessagingError(
      "unsupported",
      `${adapter.name} cannot read ${shownReference(reference)}, which a dead letter refers to`,
    );
  }
}

/** Whether another try would fail too. */
export function isUnreadable(error: unknown): boolean {
  return isMessagingError(error) && UNREADABLE.includes(error.code);
}

/** The queue or subscription whose dead letters are processed. */
export interface Source {
  readonly address: WorkAddress;
  readonly deadLetters: DeadLettersAddress;
  /** For messages: `orders`, `order.placed..billing`. */
  readonly name: string;
  readonly ordered: boolean;
  readonly schema: Queue<unknown>["schema"];
  readonly codec: Codec;
  readonly tombstones?: Tombstones | undefined;
  /** Reads what dead letters refer to. */
  readonly originals: Originals;
}

/** Throws `invalid` unless it is a queue, or a topic with a subscription. */
export function sourceOf(
  internals: BrokerInternals,
  destination: Queue<never, unknown> | Topic<never, unknown>,
  subscription: string | undefined,
): Source {
  const address = addressOf(destination, subscription);
  const deadLetters = { kind: "dead-letters", of: address } as const;
  return {
    address,
    deadLetters,
    originals: new Originals(internals, deadLetters),
    name: addressName(address),
    ordered: destination.options.ordered === true,
    schema: destination.schema,
    codec: destination.options.codec ?? internals.codec,
    tombstones: destination.options.tombstones,
  };
}

function addressOf(
  destination: Queue<never, unknown> | Topic<never, unknown> | null | undefined,
  subscription: string | undefined,
): WorkAddress {
  if (destination?.kind === "queue" && subscription === undefined) return { kind: "queue", name: destination.name };
  if (destination?.kind === "topic" && subscription !== undefined) {
    checkName("subscription", subscription);
    return { kind: "subscription", topic: destination.name, name: subscription };
  }
  throw new MessagingError(
    "invalid",
    "deadLetters(broker, …) takes a queue, or a topic and the name of its subscription",
  );
}

/** The destination of a replay. Plain JSON. */
export interface TargetAddress {
  readonly address: WorkAddress | TopicAddress;
  readonly ordered: boolean;
}

/** A target with its schema and codec. */
export interface Target extends TargetAddress {
  readonly name: string;
  readonly schema: Queue<unknown>["schema"];
  readonly codec: Codec;
  readonly tombstones?: Tombstones | undefined;
}

/** The source itself, or another destination. Throws `invalid`. */
export function targetOf(internals: BrokerInternals, source: Source, to: Destination | undefined): Target {
  if (to === undefined) return source;
  const of: Queue<never, unknown> | Topic<never, unknown> = to?.kind === "subscription" ? to.topic : to;
  if (of?.kind !== "queue" && of?.kind !== "topic") {
    throw new MessagingError("invalid", "{ to } takes a destination made by queue(), topic() or subscription()");
  }
  const address = targetAddressOf(to);
  return {
    address,
    name: addressName(address),
    ordered: of.options.ordered === true,
    schema: of.schema,
    codec: of.options.codec ?? internals.codec,
    tombstones: of.options.tombstones,
  };
}

function targetAddressOf(to: Destination): WorkAddress | TopicAddress {
  if (to.kind === "subscription") return { kind: "subscription", topic: to.topic.name, name: to.name };
  return { kind: to.kind, name: to.name };
}

/** Rejects with `not-found` if the queue or subscription does not exist on the broker. */
export async function requireTarget({ adapter }: BrokerInternals, { address }: TargetAddress): Promise<void> {
  // Topics store no messages, and not every broker has a depth for them. A send to a missing topic fails anyway.
  if (address.kind !== "topic") await adapter.depth(address);
}

/** Whether a stored value is a target address with valid names. */
export function isTargetAddress(given: unknown): given is TargetAddress {
  const { address, ordered } = (given ?? {}) as Partial<TargetAddress>;
  const { kind, name, topic } = (address ?? {}) as Partial<Record<keyof Address | "name" | "topic", unknown>>;
  if (typeof ordered !== "boolean") return false;
  if (kind === "subscription") return isName("topic", topic) && isName(kind, name);
  return (kind === "queue" || kind === "topic") && isName(kind, name);
}

function isName(what: string, name: unknown): boolean {
  try {
    checkName(what, name);
    return true;
  } catch {
    return false;
  }
}
