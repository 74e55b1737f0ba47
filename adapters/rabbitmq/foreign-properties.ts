import { isUint8Array } from "node:util/types";
import type { MessageProperties, Options } from "amqplib";
import type { ForeignProperties } from "../../core/adapter.ts";
import type { Headers } from "../../core/delivery.ts";
import { type TypedHeader, USER_HEADER } from "./headers.ts";

/** The server's own name for "answer me on this channel": who sends it has to be waiting for the answer. */
const DIRECT_REPLY = "amq.rabbitmq.reply-to";
/** The most bytes of a property. */
const LONGEST_PROPERTY = 255;
const TEXTS = ["replyTo", "correlationId", "type", "appId"] as const;
const SECOND_MS = 1_000;
/** Seconds of the year 5138, or milliseconds of 1973: clients that write milliseconds are more common than the former. */
const MOST_SECONDS = 100_000_000_000;
const LONGEST_TIME_MS = 8_640_000_000_000_000;
const UNSIGNED_64 = 2 ** 64;
const SIGNED_64 = 2 ** 63;
/** A message without a priority has this one, from RabbitMQ 4.0 on. */
export const NORMAL_PRIORITY = 4;
/** Deeper ones become text: what is written was read by a sender's rules, and is written by ours. */
const DEEPEST = 32;
const NUMBER_BYTES = 9;

/** What another sender's message has beside what anybroker reads of it. */
export class AmqpProperties implements ForeignProperties {
  readonly bytes: number;
  readonly #properties: MessageProperties;
  /** Who sent it, as a header says; unlike the property, which the server vouches for. */
  readonly #user: string | undefined;
  readonly #typed: ReadonlyMap<string, TypedHeader>;
  /** The encoding is about this very body. */
  readonly #body: Uint8Array;

  private constructor(
    properties: MessageProperties,
    user: string | undefined,
    typed: ReadonlyMap<string, TypedHeader>,
    body: Uint8Array,
  ) {
    this.#properties = properties;
    this.#user = user;
    this.#typed = typed;
    this.#body = body;
    let bytes = 0;
    for (const name of TEXTS) bytes += byteLength(properties[name]);
    for (const [name, { value }] of typed) bytes += name.length + sizeOf(value, DEEPEST);
    this.bytes = bytes;
  }

  /** Undefined where there is nothing, as with anybroker's own messages. */
  static of(
    properties: MessageProperties,
    user: string | undefined,
    typed: ReadonlyMap<string, TypedHeader> | undefined,
    body: Uint8Array,
  ): AmqpProperties | undefined {
    const { replyTo, correlationId, type, appId, timestamp, contentEncoding, userId, priority } = properties;
    const given = [replyTo, correlationId, type, appId, timestamp, contentEncoding, userId ?? user];
    const isLow = typeof priority === "number" && priority <= NORMAL_PRIORITY;
    if (typed === undefined && !isLow && given.every((one) => one === undefined)) return undefined;
    return new AmqpProperties(properties, user, typed ?? new Map(), body);
  }

  /** Writes into the options of a copy what it can of all this. `login` is the user who sends. */
  writeInto(options: Options.Publish, body: Uint8Array, login: string): void {
    const { timestamp, contentEncoding, userId } = this.#properties;
    for (const name of TEXTS) {
      const text: unknown = this.#properties[name];
      if (isProperty(text) && text !== DIRECT_REPLY) options[name] = text;
    }
    if (isUnsigned64(timestamp)) options.timestamp = timestamp;
    if (body === this.#body && isProperty(contentEncoding)) options.contentEncoding = contentEncoding;
    // Never by the header's word: whoever may send would have it signed with this name.
    if (userId === login) options.userId = login;
  }

  /** Writes the values of headers as they were, where the copy has the text that stands for them. */
  writeHeaders(wire: Record<string, unknown>, headers: Headers, login: string): void {
    for (const [name, { wireName, text, value }] of this.#typed) {
      if (headers[name] !== text) continue;
      const encodable = encodableOf(value, DEEPEST);
      if (encodable !== undefined) wire[wireName] = encodable;
    }
    const { userId } = this.#properties;
    const user: unknown = userId === login ? undefined : (userId ?? this.#user);
    if (typeof user === "string") wire[USER_HEADER] = user;
  }

  /** The priority of the message, where anybroker's own could not say it. */
  priorityFor(priority: number): number | undefined {
    const given: unknown = this.#properties.priority;
    return typeof given === "number" && fromWirePriority(given) === priority ? given : undefined;
  }
}

/** In anybroker's terms 0 is what a message has that says nothing, and nothing is lower. */
export function fromWirePriority(given: unknown): number {
  return typeof given === "number" && given > NORMAL_PRIORITY ? given - NORMAL_PRIORITY : 0;
}

/** An AMQP timestamp in milliseconds since 1970; undefined where it is none, or no date. */
export function sentAt(timestamp: unknown): number | undefined {
  if (typeof timestamp !== "number" || timestamp <= 0) return undefined;
  const ms = timestamp < MOST_SECONDS ? timestamp * SECOND_MS : timestamp;
  return ms <= LONGEST_TIME_MS ? ms : undefined;
}

function isProperty(text: unknown): text is string {
  return typeof text === "string" && byteLength(text) <= LONGEST_PROPERTY;
}

function byteLength(text: unknown): number {
  return typeof text === "string" ? Buffer.byteLength(text) : 0;
}

function isUnsigned64(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < UNSIGNED_64;
}

/**
 * A decoded value as amqplib encodes it, or undefined where it would throw, or write something else: of what a sender
 * wrote not everything can be written by it.
 */
function encodableOf(value: unknown, depth: number): unknown {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return encodableNumber(value);
  if (typeof value !== "object" || depth === 0) return undefined;
  if (isUint8Array(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (Object.hasOwn(value, "!")) return encodableExotic(value as { "!": unknown; value?: unknown });
  if (Array.isArray(value)) {
    const list = value.map((item) => encodableOf(item, depth - 1));
    return list.includes(undefined) ? undefined : list;
  }
  const table = Object.create(null) as Record<string, unknown>;
  for (const name of Object.keys(value)) {
    const encodable = encodableOf((value as Record<string, unknown>)[name], depth - 1);
    if (encodable === undefined) return undefined;
    table[name] = encodable;
  }
  return table;
}

/** amqplib takes some for integers that are none, and throws. */
function encodableNumber(value: number): unknown {
  if (Number.isSafeInteger(value)) return value;
  return { "!": Number.isInteger(value) && Math.abs(value) < SIGNED_64 ? "long" : "double", value };
}

function encodableExotic({ "!": kind, value }: { "!": unknown; value?: unknown }): unknown {
  if (kind === "timestamp") return isUnsigned64(value) ? { "!": kind, value } : undefined;
  if (kind !== "decimal") return undefined;
  const { places, digits } = (value ?? {}) as { places?: unknown; digits?: unknown };
  const fits = isUnsigned64(places) && places < 256 && isUnsigned64(digits) && digits < 2 ** 32;
  return fits ? { "!": kind, value: { places, digits } } : undefined;
}

/** About how many bytes a value takes. */
function sizeOf(value: unknown, depth: number): number {
  if (typeof value === "string") return NUMBER_BYTES + Buffer.byteLength(value);
  if (typeof value !== "object" || value === null || depth === 0) return NUMBER_BYTES;
  if (isUint8Array(value)) return NUMBER_BYTES + value.byteLength;
  let bytes = NUMBER_BYTES;
  for (const name of Object.keys(value)) {
    bytes += name.length + sizeOf((value as Record<string, unknown>)[name], depth - 1);
  }
  return bytes;
}
