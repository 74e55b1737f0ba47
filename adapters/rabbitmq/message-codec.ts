import { createHash } from "node:crypto";
import { isUint8Array } from "node:util/types";
import type { ConsumeMessage, MessageProperties, Options } from "amqplib";
import type { DeliveryToken, ForeignProperties, IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import type { MessageHeaders } from "../../core/delivery.ts";
import { MessagingError } from "../../core/errors.ts";
import { oneLine } from "../../core/foreign.ts";
import { DERIVED_ID } from "../../core/message-ids.ts";
import { HEADERS_NOT_READ, withHeaders } from "../../core/system-headers.ts";
import { routingKeyBeforeDelay } from "./delay-levels.ts";
import { OWN_PREFIX } from "./names.ts";
import { unreadHeaders } from "./unreadable-headers.ts";

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
const NORMAL_PRIORITY = 4;
/** Deeper ones become text: what is written was read by a sender's rules, and is written by ours. */
const DEEPEST_FOREIGN = 32;
const NUMBER_BYTES = 9;

/** What another sender's message has beside what anybroker reads of it. */
class AmqpProperties implements ForeignProperties {
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
    for (const [name, { value }] of typed) bytes += name.length + sizeOf(value, DEEPEST_FOREIGN);
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
  writeHeaders(wire: Record<string, unknown>, headers: MessageHeaders, login: string): void {
    for (const [name, { wireName, text, value }] of this.#typed) {
      if (headers[name] !== text) continue;
      const encodable = encodableOf(value, DEEPEST_FOREIGN);
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
function fromWirePriority(given: unknown): number {
  return typeof given === "number" && given > NORMAL_PRIORITY ? given - NORMAL_PRIORITY : 0;
}

/** An AMQP timestamp in milliseconds since 1970; undefined where it is none, or no date. */
function sentAt(timestamp: unknown): number | undefined {
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

/*
 * Some header names cannot travel as they are: amqplib drops `__proto__`, RabbitMQ takes `CC` and `BCC` for more
 * destinations, and writes those about its own dead-lettering and counting itself. Such a name goes with a prefix.
 */
const ESCAPE = "anybroker-header-";
const SPECIAL =
  /^(?:__proto__|BCC|CC|x-(?:death|(?:first|last)-death-.*|delivery-count|acquired-count|opt-.*)|anybroker-header-.*)$/s;
/** Written by RabbitMQ about its own doings: to be read on the native message only, and never to be sent again. */
const OWN = /^(?:BCC|CC|x-(?:death|(?:first|last)-death-.*|delivery-count|acquired-count|opt-.*))$/s;

/** A header for the adapter's own use, that is part of no message's headers. */
export const KEY_HEADER = "anybroker-key";
/** The routing key of an event's copy to one queue, where AMQP's routing key is the queue's name. */
export const ROUTING_KEY_HEADER = "anybroker-routing-key";

/** The user who sent a message, where its copy cannot say so: RabbitMQ lets nobody sign with another's name. */
export const USER_HEADER = "anybroker-user-id";
/** Tells a message that is sent again from the one before, where that is not answered yet. */
export const TWIN_HEADER = "anybroker-twin";

/** The most bytes of a header name on the wire. */
const LONGEST_NAME_BYTES = 255;

/** Headers for amqplib, or undefined if there are none. Throws a RangeError that names a name too long for AMQP. */
export function toWire(
  headers: MessageHeaders,
  key: string | undefined,
  routingKey: string | undefined,
): Record<string, unknown> | undefined {
  let wire: Record<string, unknown> | undefined;
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined) continue;
    wire ??= Object.create(null) as Record<string, unknown>;
    wire[wireName(name)] = value;
  }
  if (key !== undefined) {
    wire ??= Object.create(null) as Record<string, unknown>;
    wire[KEY_HEADER] = key;
  }
  if (routingKey !== undefined) {
    wire ??= Object.create(null) as Record<string, unknown>;
    wire[ROUTING_KEY_HEADER] = routingKey;
  }
  return wire;
}

function wireName(name: string): string {
  const first = name.charCodeAt(0);
  // Only names that begin with one of these can be special: _ B C x a.
  const suspicious = first === 95 || first === 66 || first === 67 || first === 120 || first === 97;
  const wire = suspicious && SPECIAL.test(name) ? ESCAPE + name : name;
  if (wire.length * 3 > LONGEST_NAME_BYTES && Buffer.byteLength(wire) > LONGEST_NAME_BYTES) {
    throw new RangeError(`the header name "${name.slice(0, 40)}…" is over ${LONGEST_NAME_BYTES} bytes`);
  }
  return wire;
}

/** A header of another sender that is no text. */
interface TypedHeader {
  readonly wireName: string;
  /** What handlers read in its place; undefined where they find no such header. */
  readonly text: string | undefined;
  readonly value: unknown;
}

/** What stood in the headers of a delivery. */
interface FromWire {
  readonly headers: MessageHeaders;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** Who sent the message that this is a copy of. */
  readonly user: string | undefined;
  /** Those that are no text, by their names; undefined where all are. */
  readonly typed: ReadonlyMap<string, TypedHeader> | undefined;
}

/**
 * The headers of a delivery, as a fresh object of own string values without a prototype. What another sender wrote is
 * made text: numbers and booleans as JavaScript writes them, bytes as base64, a timestamp as ISO 8601, lists and tables
 * as JSON, cut off below eight levels and at 4,096 characters; what is null or of an unknown kind is left out. Never throws.
 */
export function fromWire(wire: Record<string, unknown> | undefined): FromWire {
  const headers = Object.create(null) as Record<string, string>;
  let key: string | undefined;
  let routingKey: string | undefined;
  let user: string | undefined;
  let typed: Map<string, TypedHeader> | undefined;
  for (const wireName of wire === undefined ? [] : Object.keys(wire)) {
    const value = wire?.[wireName];
    if (wireName === KEY_HEADER) {
      if (typeof value === "string") key = value;
    } else if (wireName === ROUTING_KEY_HEADER) {
      if (typeof value === "string") routingKey = value;
    } else if (wireName === USER_HEADER) {
      if (typeof value === "string") user = value;
    } else if (!OWN.test(wireName) && wireName !== TWIN_HEADER) {
      const name = wireName.startsWith(ESCAPE) ? wireName.slice(ESCAPE.length) : wireName;
      const text = typeof value === "string" ? value : foreignText(value);
      if (text !== undefined) headers[name] = text;
      if (typeof value === "string") continue;
      typed ??= new Map();
      typed.set(name, { wireName, text, value });
    }
  }
  return { headers, key, routingKey, user, typed };
}

const DEEPEST = 8;
const LONGEST_FOREIGN_TEXT = 4096;

/** Undefined for what no text can be made of. */
function foreignText(value: unknown): string | undefined {
  try {
    const plain = simplify(value, DEEPEST);
    if (plain === undefined || plain === null) return undefined;
    const string = typeof plain === "object" ? JSON.stringify(plain) : String(plain);
    return string.slice(0, LONGEST_FOREIGN_TEXT);
  } catch {
    // A message is not to be stopped, and its consumer with it, by one header.
    return undefined;
  }
}

/** What is left of a decoded AMQP value for JSON. */
function simplify(value: unknown, depth: number): unknown {
  if (typeof value !== "object" || value === null) {
    if (typeof value === "bigint") return String(value);
    return ["string", "number", "boolean"].includes(typeof value) ? value : null;
  }
  // By what it is: in a table with bytes under the name `__proto__` they are its prototype.
  if (isUint8Array(value)) return Buffer.from(value).toString("base64");
  if (Object.hasOwn(value, "!")) return exotic(value as { "!": unknown; value?: unknown });
  if (depth === 0) return null;
  if (Array.isArray(value)) return value.map((item) => simplify(item, depth - 1));
  const table = Object.create(null) as Record<string, unknown>;
  for (const name of Object.keys(value)) {
    table[name] = simplify((value as Record<string, unknown>)[name], depth - 1);
  }
  return table;
}

/** amqplib's way to give a timestamp or a decimal; a table of a sender that looks like one may hold anything. */
function exotic(value: { "!": unknown; value?: unknown }): string | null {
  if (value["!"] === "timestamp") return timestampOf(value) ?? null;
  if (value["!"] === "decimal") {
    const { places, digits } = (value.value ?? {}) as { places?: unknown; digits?: unknown };
    return typeof digits === "number" && typeof places === "number" ? String(digits / 10 ** places) : null;
  }
  return null;
}

/** An AMQP timestamp, as amqplib gives it, in ISO 8601; undefined for what is none. */
export function timestampOf(given: unknown): string | undefined {
  const seconds = (given as { readonly value?: unknown } | null | undefined)?.value;
  const date = new Date(typeof seconds === "number" ? seconds * 1000 : Number.NaN);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

const MILLISECONDS = /^\d{1,10}$/;
/** RabbitMQ takes no longer time to live; a longer one is left to the check at delivery. */
export const LONGEST_TTL_MS = 2 ** 32 - 1;

/**
 * AMQP properties of a message. `toTopic` tells that AMQP's routing key is the message's own; elsewhere it goes in a
 * header. `login` is the user who sends. Throws a RangeError for what AMQP cannot carry.
 */
export function publishOptions(message: OutgoingMessage, toTopic: boolean, login: string): Options.Publish {
  const { ttlMs, contentType, priority, body } = message;
  const foreign = message.foreign instanceof AmqpProperties ? message.foreign : undefined;
  let headers = toWire(message.headers, message.key, toTopic ? undefined : message.routingKey);
  if (foreign !== undefined) {
    headers ??= Object.create(null) as Record<string, unknown>;
    foreign.writeHeaders(headers, message.headers, login);
  }
  const options: Options.Publish = {
    mandatory: true,
    persistent: true,
    messageId: message.id,
    headers,
  };
  if (contentType !== undefined) options.contentType = contentType;
  // One without a priority counts as one of 4, whoever sent it.
  const wirePriority = foreign?.priorityFor(priority) ?? (priority > 0 ? NORMAL_PRIORITY + priority : undefined);
  if (wirePriority !== undefined) options.priority = wirePriority;
  foreign?.writeInto(options, body, login);
  // Dead-lettering out of a wait queue removes it, so a delayed message's time to live is the engine's to check.
  if (ttlMs !== undefined && message.delayMs === 0 && ttlMs <= LONGEST_TTL_MS) options.expiration = Math.ceil(ttlMs);
  return options;
}

/** No header frame of amqplib is longer: it encodes 64 KiB of headers at most, and 13 properties of 256 bytes beside them. */
export const LONGEST_HEADER_FRAME = 65_536 + 4_096;

/** Kind, channel and size, class, weight and length of the body, flags, end. */
const FRAME_BYTES = 7 + 12 + 2 + 1;

/** The bytes of the frame with a message's properties and headers; of numbers in headers, at most. */
export function headerFrameBytes(options: Options.Publish): number {
  const { headers, messageId, contentType, contentEncoding, correlationId, replyTo, type, appId, userId } = options;
  let bytes = FRAME_BYTES + valueBytes(headers ?? {});
  for (const text of [messageId, contentType, contentEncoding, correlationId, replyTo, type, appId, userId]) {
    if (text !== undefined) bytes += 1 + Buffer.byteLength(text);
  }
  if (options.expiration !== undefined) bytes += 1 + String(options.expiration).length;
  if (options.timestamp !== undefined) bytes += 8;
  // Delivery mode and priority.
  return bytes + 2;
}

function valueBytes(value: unknown): number {
  switch (typeof value) {
    case "string":
      return 4 + Buffer.byteLength(value);
    case "boolean":
      return 1;
    case "object":
      break;
    default:
      return 8;
  }
  if (value === null) return 0;
  if (value instanceof Uint8Array) return 4 + value.length;
  if (Array.isArray(value)) return value.reduce<number>((sum, one) => sum + 1 + valueBytes(one), 4);
  let bytes = 4;
  for (const [name, one] of Object.entries(value)) {
    if (one !== undefined) bytes += 1 + Buffer.byteLength(name) + 1 + valueBytes(one);
  }
  return bytes;
}

/** The body as amqplib wants it, without a copy. */
export function asBuffer(body: Uint8Array): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

/** A delivery in anybroker's terms. */
export function incoming(
  message: ConsumeMessage,
  token: DeliveryToken,
  redeliveries: number,
): IncomingMessage<ConsumeMessage> {
  const { fields, properties } = message;
  const wire = properties.headers as Record<string, unknown> | undefined;
  const { headers, key, routingKey, user, typed } = fromWire(wire);
  const foreign = AmqpProperties.of(properties, user, typed, message.content);
  const unread = unreadHeaders(properties);
  const notRead = unread === undefined ? undefined : oneLine(unread.join(", "), MOST_NAMES);
  return {
    token,
    id: messageId(message),
    key,
    routingKey: routingKey ?? publishedRoutingKey(fields.exchange, fields.routingKey),
    headers: notRead === undefined ? headers : withHeaders(headers, { [HEADERS_NOT_READ]: notRead }),
    body: message.content,
    contentType: properties.contentType as string | undefined,
    redeliveries,
    priority: fromWirePriority(properties.priority),
    ...(foreign === undefined
      ? undefined
      : { foreign, sentAt: sentAt(properties.timestamp), contentEncoding: textOf(properties.contentEncoding) }),
    ...(notRead === undefined ? undefined : { unreadHeaders: headersNotRead(notRead) }),
    native: message,
  };
}

/** The most characters of the names of headers. */
const MOST_NAMES = 400;

function headersNotRead(names: string): MessagingError {
  return new MessagingError(
    "invalid",
    `the client library cannot decode some headers of the message (${names}): they have an unknown type, or are nested too deep. Have them sent as texts; to handle the message without them, replay its dead letter with { incomplete: true }`,
  );
}

/** A delivery of work: what another sender let expire does so, and its copies with it. */
export function incomingWork(
  message: ConsumeMessage,
  token: DeliveryToken,
  redeliveries: number,
): IncomingMessage<ConsumeMessage> {
  const plain = incoming(message, token, redeliveries);
  const { expiration } = message.properties;
  const afterMs = typeof expiration === "string" && MILLISECONDS.test(expiration) ? Number(expiration) : undefined;
  // How long it had stood there nobody tells; it was not expired yet.
  return afterMs === undefined ? plain : { ...plain, expiresAt: Date.now() + afterMs };
}

function textOf(given: unknown): string | undefined {
  return typeof given === "string" ? given : undefined;
}

function publishedRoutingKey(exchange: string, routingKey: string): string | undefined {
  if (exchange === "") return undefined;
  // Of the level it expired in, or of the delivery exchange.
  const published = exchange.startsWith(OWN_PREFIX) ? routingKeyBeforeDelay(routingKey) : routingKey;
  return published === "" ? undefined : published;
}

/** The id that a message was sent with, or one made of what it holds. */
export function messageId(message: ConsumeMessage): string {
  const given: unknown = message.properties.messageId;
  return typeof given === "string" && given !== "" ? given : foreignId(message);
}

const NAMED: readonly (keyof MessageProperties)[] = ["timestamp", "correlationId", "type", "appId", "replyTo"];

/**
 * The id of a message that came without one. RabbitMQ keeps nothing of its own about a message over redeliveries, so it
 * is made of what the sender gave: two messages without an id that are equal in everything have equal ids.
 */
function foreignId(message: ConsumeMessage): string {
  const hash = createHash("sha256");
  const { properties } = message;
  hash.update(JSON.stringify([message.fields.routingKey, NAMED.map((name) => properties[name] ?? null)]));
  const { headers } = fromWire(properties.headers as Record<string, unknown> | undefined);
  hash.update(JSON.stringify(headers));
  hash.update(message.content);
  return `${DERIVED_ID}${hash.digest("hex").slice(0, 40)}`;
}
