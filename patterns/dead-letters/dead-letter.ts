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
import { HEADER, HEADERS_NOT_READ, numberHeader, publishedAt, userHeaders } from "../../core/system-headers.ts";

const LENGTH = 12;
const LONGEST = 1_024;

/**
 * What differs between two failures of one kind, in the order in which it is taken out. As error trackers do it (Sentry's
 * parameterization, Honeybadger's fingerprints): what is a value becomes the name of its kind.
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

/** An error's message without what differs from one failure to the next; spaces run together, 1,024 characters at most. */
export function normalisedError(message: string): string {
  let text = message.slice(0, LONGEST);
  for (const [pattern, kind] of VALUES) text = text.replace(pattern, kind);
  return text.replace(/\s+/g, " ").trim();
}

/**
 * Names a kind of failure: the first 12 hexadecimal digits of the SHA-256 of destination, error class and normalised
 * message. Stable over processes, brokers and runs.
 */
export function fingerprint(destination: string, errorClass: string | undefined, error: string | undefined): string {
  const parts = [destination, errorClass ?? "", normalisedError(error ?? "")];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, LENGTH);
}

const DIGEST_BYTES = 16;
const FIELD_END = "\n";

/** A message in the dead letters, with what its headers say of it. What is rarely needed is worked out when asked for. */
export class DeadLetter {
  readonly message: IncomingMessage;
  /** Where it was to be handled: `orders`, `order.placed..billing`. */
  readonly destination: string;
  #id: string | undefined;
  #content: string | undefined;
  #group: string | undefined;

  constructor(message: IncomingMessage, destination: string) {
    this.message = message;
    this.destination = destination;
  }

  /**
   * Names this entry: a digest of everything about it, so that it is the same for every scan, and on
   * every broker. The same message, dead-lettered once more, is another entry; copies that are equal in everything are one.
   */
  get id(): string {
    this.#id ??= digestOf(this.message, this.message.headers);
    return this.#id;
  }

  /** What copies of one message have in common: its id, body and the publisher's headers. */
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

  /** How often it was sent back from the dead letters before. */
  get replays(): number {
    return numberHeader(this.message.headers, HEADER.replays, 0);
  }

  get replayRun(): string | undefined {
    return this.#header(HEADER.replayRun);
  }

  get editedFrom(): string | undefined {
    return this.#header(HEADER.editedFrom);
  }

  /** Where the message is stored that this one refers to; undefined where it is the message itself. */
  get reference(): string | undefined {
    return this.#header(HEADER.deadReference);
  }

  /** What the message lost on its way here, in words. */
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

  /** Milliseconds since 1970; undefined where nothing tells. */
  get firstPublishedAt(): number | undefined {
    return publishedAt(this.message.headers, this.message.id) ?? this.message.sentAt;
  }

  /** What entries are put in order by: when it failed last, else when it was published. */
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

/** With its length before it, so that two fields never run into one. */
function update(hash: Hash, field: string | undefined): void {
  hash.update(field === undefined ? "-" : `${field.length}:${field}`);
}

const BEYOND_READING: readonly MessagingErrorCode[] = ["not-found", "invalid", "unsupported", "too-large"];

/**
 * The messages that dead letters stand for: mostly themselves. Some only refer to messages, which are too large for copies:
 * those are read one after another, so that one is in memory at a time.
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
   * Calls with the messages that a dead letter refers to; nothing of them is to be kept. Rejects if they are gone, or cannot
   * be read, and as the call does.
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
    throw new MessagingError("unsupported", `${adapter.name} cannot read ${reference}, which a dead letter refers to`);
  }
}

/** Whether what could not be read cannot be read by another try either. */
export function isBeyondReading(error: unknown): boolean {
  return isMessagingError(error) && BEYOND_READING.includes(error.code);
}

/** A queue or a subscription whose dead letters are worked on. */
export interface Source {
  readonly address: WorkAddress;
  readonly deadLetters: DeadLettersAddress;
  /** As people read it: `orders`, `order.placed..billing`. */
  readonly name: string;
  readonly ordered: boolean;
  readonly schema: Queue<unknown>["schema"];
  readonly codec: Codec;
  readonly tombstones?: Tombstones | undefined;
  /** What those stand for that only refer to messages. */
  readonly originals: Originals;
}

/** Throws `invalid` for what is neither a queue nor a topic with the name of a subscription. */
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
    "deadLetters(broker, …) takes a queue, or a topic and the name of its subscription: each has dead letters of its own",
  );
}

/** Where a replay sends to: plain JSON. */
export interface TargetAddress {
  readonly address: WorkAddress | TopicAddress;
  readonly ordered: boolean;
}

/** A target, with what reads and writes its bodies where that is known. */
export interface Target extends TargetAddress {
  readonly name: string;
  readonly schema: Queue<unknown>["schema"];
  readonly codec: Codec;
  readonly tombstones?: Tombstones | undefined;
}

/** The source itself, or another destination. Throws `invalid` for what is none. */
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

/** Rejects with `not-found` for a queue or subscription that does not stand on the broker. */
export async function requireTarget({ adapter }: BrokerInternals, { address }: TargetAddress): Promise<void> {
  // Not every broker counts the messages of a topic, where none ever stay; sending to one that is not there is refused.
  if (address.kind !== "topic") await adapter.depth(address);
}

/** Whether it is one, with names as destinations have them. */
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
