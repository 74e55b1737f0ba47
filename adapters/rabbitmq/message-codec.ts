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

/** RabbitMQ's address for "reply to me on this channel": only valid while its sender waits. */
const DIRECT_REPLY = "amq.rabbitmq.reply-to";
/** The most bytes of a property. */
const MAX_PROPERTY_BYTES = 255;
const TEXTS = ["replyTo", "correlationId", "type", "appId"] as const;
const SECOND_MS = 1_000;
/** In seconds it is the year 5138, in milliseconds 1973. Clients that write milliseconds are more likely. */
const MAX_SECONDS = 100_000_000_000;
const MAX_TIME_MS = 8_640_000_000_000_000;
const UNSIGNED_64 = 2 ** 64;
const SIGNED_64 = 2 ** 63;
/** A message without a priority counts as this one, from RabbitMQ 4.0 on. */
const NORMAL_PRIORITY = 4;
/** Deeper values become text. */
const MAX_FOREIGN_DEPTH = 32;
const NUMBER_BYTES = 9;

/** The properties of a foreign message for which anybroker has no field. */
class AmqpProperties implements ForeignProperties {
  readonly bytes: number;
  readonly #properties: MessageProperties;
  /** The sender, according to a header. RabbitMQ verifies only the property. */
  readonly #user: string | undefined;
  readonly #typed: ReadonlyMap<string, TypedHeader>;
  /** The body that the content encoding belongs to. */
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
    for (const [name, { value }] of typed) bytes += name.length + sizeOf(value, MAX_FOREIGN_DEPTH);
    this.bytes = bytes;
  }

  /** Undefined if there are none, as on anybroker's own messages. */
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

  /** Writes as many properties as possible into the options of a copy. `login` is the user who sends. */
  writeInto(options: Options.Publish, body: Uint8Array, login: string): void {
    const { timestamp, contentEncoding, userId } = this.#properties;
    for (const name of TEXTS) {
      const text: unknown = this.#properties[name];
      if (isProperty(text) && text !== DIRECT_REPLY) options[name] = text;
    }
    if (isUnsigned64(timestamp)) options.timestamp = timestamp;
    if (body === this.#body && isProperty(contentEncoding)) options.contentEncoding = contentEncoding;
    // Never from the header: any sender could have RabbitMQ sign a message with this name.
    if (userId === login) options.userId = login;
  }

  /** Writes the original values of headers, if the copy still has the text made from them. */
  writeHeaders(wire: Record<string, unknown>, headers: MessageHeaders, login: string): void {
    for (const [name, { wireName, text, value }] of this.#typed) {
      if (headers[name] !== text) continue;
      const encodable = encodableOf(value, MAX_FOREIGN_DEPTH);
      if (encodable !== undefined) wire[wireName] = encodable;
    }
    const { userId } = this.#properties;
    const user: unknown = userId === login ? undefined : (userId ?? this.#user);
    if (typeof user === "string") wire[USER_HEADER] = user;
  }

  /** The original priority, if anybroker's priority does not determine it. */
  priorityFor(priority: number): number | undefined {
    const given: unknown = this.#properties.priority;
    return typeof given === "number" && fromWirePriority(given) === priority ? given : undefined;
  }
}

/** Converts a priority. 0 is that of a message without one, and of all lower ones. */
function fromWirePriority(given: unknown): number {
  return typeof given === "number" && given > NORMAL_PRIORITY ? given - NORMAL_PRIORITY : 0;
}

/** An AMQP timestamp in milliseconds since 1970; undefined if it is missing or no date. */
function sentAt(timestamp: unknown): number | undefined {
  if (typeof timestamp !== "number" || timestamp <= 0) return undefined;
  const ms = timestamp < MAX_SECONDS ? timestamp * SECOND_MS : timestamp;
  return ms <= MAX_TIME_MS ? ms : undefined;
}

function isProperty(text: unknown): text is string {
  return typeof text === "string" && byteLength(text) <= MAX_PROPERTY_BYTES;
}

function byteLength(text: unknown): number {
  return typeof text === "string" ? Buffer.byteLength(text) : 0;
}

function isUnsigned64(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value < UNSIGNED_64;
}

/** A decoded value in a form that amqplib encodes correctly; undefined if there is none. */
function encodableOf(value: unknown, depth: number): unknown {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return encodableNumber(value);
  if (typeof value !== "object" || depth === 0) return undefined;
  if (isUint8Array(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (Object.hasOwn(value, "!")) return encodableTagged(value as { "!": unknown; value?: unknown });
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

/** amqplib throws on some numbers that it mistakes for integers. */
function encodableNumber(value: number): unknown {
  if (Number.isSafeInteger(value)) return value;
  return { "!": Number.isInteger(value) && Math.abs(value) < SIGNED_64 ? "long" : "double", value };
}

function encodableTagged({ "!": kind, value }: { "!": unknown; value?: unknown }): unknown {
  if (kind === "timestamp") return isUnsigned64(value) ? { "!": kind, value } : undefined;
  if (kind !== "decimal") return undefined;
  const { places, digits } = (value ?? {}) as { places?: unknown; digits?: unknown };
  const fits = isUnsigned64(places) && places < 256 && isUnsigned64(digits) && digits < 2 ** 32;
  return fits ? { "!": kind, value: { places, digits } } : undefined;
}

/** The approximate bytes of a value. */
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

/** Headers of the adapter itself; they are not in a message's headers. */
export const KEY_HEADER = "anybroker-key";
/** The routing key of an event's copy to a queue, whose AMQP routing key is the queue's name. */
export const ROUTING_KEY_HEADER = "anybroker-routing-key";

/** The sender of a message, on its copies: RabbitMQ accepts only the login as the property `user-id`. */
export const USER_HEADER = "anybroker-user-id";
/** Distinguishes a message that is sent again from the first one, while that has no answer. */
export const TWIN_HEADER = "anybroker-twin";

/*
 * Some header names are not possible as they are: amqplib drops `__proto__`, RabbitMQ treats `CC` and `BCC` as more
 * destinations, and it writes the names about dead-lettering and counts itself. The adapter's own names would be read as
 * its own. Such names get a prefix, and so do names that look like this. Only these are read without the prefix:
 * otherwise a sender could choose any name that the next copy has.
 */
const ESCAPE = "anybroker-header-";
const SPECIAL =
  /^(?:anybroker-header-)*(?:__proto__|BCC|CC|x-(?:death|(?:first|last)-death-.*|delivery-count|acquired-count|opt-.*)|anybroker-(?:key|routing-key|user-id|twin))$/s;
/** Headers that RabbitMQ writes itself: only on the native message, and never sent again. */
const OWN = /^(?:BCC|CC|x-(?:death|(?:first|last)-death-.*|delivery-count|acquired-count|opt-.*))$/s;

/** The most bytes of a header name on the wire. */
const MAX_NAME_BYTES = 255;

/** Headers for amqplib, or undefined if there are none. Throws a RangeError that quotes a name too long for AMQP. */
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
  if (wire.length * 3 > MAX_NAME_BYTES && Buffer.byteLength(wire) > MAX_NAME_BYTES) {
    throw new RangeError(`the header name "${name.slice(0, 40)}…" has more than ${MAX_NAME_BYTES} bytes`);
  }
  return wire;
}

/** The name that {@link wireName} made this of. */
function originalName(wire: string): string {
  const name = wire.startsWith(ESCAPE) ? wire.slice(ESCAPE.length) : "";
  return SPECIAL.test(name) ? name : wire;
}

/** A header of a foreign message that is not a string. */
interface TypedHeader {
  readonly wireName: string;
  /** The text that handlers read; undefined if they get no such header. */
  readonly text: string | undefined;
  readonly value: unknown;
}

/** The content of a delivery's headers. */
interface FromWire {
  readonly headers: MessageHeaders;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** The sender of the original, on a copy. */
  readonly user: string | undefined;
  /** Headers that are not strings, by name; undefined if all are. */
  readonly typed: ReadonlyMap<string, TypedHeader> | undefined;
}

/**
 * Converts the headers of a delivery to an object of string values without a prototype. Never throws.
 *
 * Foreign values become text: numbers and booleans as in JavaScript, bytes as base64, timestamps as ISO 8601, lists and
 * tables as JSON, cut off below eight levels and at 4,096 characters. Null and unknown types are left out.
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
      const name = originalName(wireName);
      const text = typeof value === "string" ? value : foreignText(value);
      if (text !== undefined) headers[name] = text;
      if (typeof value === "string") continue;
      typed ??= new Map();
      typed.set(name, { wireName, text, value });
    }
  }
  return { headers, key, routingKey, user, typed };
}

const MAX_DEPTH = 8;
const MAX_FOREIGN_TEXT = 4096;

/** Undefined if the value has no text. */
function foreignText(value: unknown): string | undefined {
  try {
    const plain = simplify(value, MAX_DEPTH);
    if (plain === undefined || plain === null) return undefined;
    const string = typeof plain === "object" ? JSON.stringify(plain) : String(plain);
    return string.slice(0, MAX_FOREIGN_TEXT);
  } catch {
    // One header must not stop a message and its consumer.
    return undefined;
  }
}

/** Converts a decoded AMQP value for JSON. */
function simplify(value: unknown, depth: number): unknown {
  if (typeof value !== "object" || value === null) {
    if (typeof value === "bigint") return String(value);
    return ["string", "number", "boolean"].includes(typeof value) ? value : null;
  }
  // Not by its prototype: in a table, bytes under the name `__proto__` become the prototype.
  if (isUint8Array(value)) return Buffer.from(value).toString("base64");
  if (Object.hasOwn(value, "!")) return taggedText(value as { "!": unknown; value?: unknown });
  if (depth === 0) return null;
  if (Array.isArray(value)) return value.map((item) => simplify(item, depth - 1));
  const table = Object.create(null) as Record<string, unknown>;
  for (const name of Object.keys(value)) {
    table[name] = simplify((value as Record<string, unknown>)[name], depth - 1);
  }
  return table;
}

/** amqplib's form of a timestamp or decimal. A foreign table with the same form may contain anything. */
function taggedText(value: { "!": unknown; value?: unknown }): string | null {
  if (value["!"] === "timestamp") return timestampOf(value) ?? null;
  if (value["!"] === "decimal") {
    const { places, digits } = (value.value ?? {}) as { places?: unknown; digits?: unknown };
    return typeof digits === "number" && typeof places === "number" ? String(digits / 10 ** places) : null;
  }
  return null;
}

/** An AMQP timestamp of amqplib in ISO 8601; undefined if it is none. */
export function timestampOf(given: unknown): string | undefined {
  const seconds = (given as { readonly value?: unknown } | null | undefined)?.value;
  const date = new Date(typeof seconds === "number" ? seconds * 1000 : Number.NaN);
  return Number.isNaN(date.getTime()) ? undefined : date.toISOString();
}

const MILLISECONDS = /^\d{1,10}$/;
/** RabbitMQ's longest time to live. The engine checks longer ones at delivery. */
export const MAX_TTL_MS = 2 ** 32 - 1;

/**
 * The AMQP properties of a message. With `toTopic`, AMQP's routing key is the message's; otherwise a header has it.
 * `login` is the user who sends. Throws a RangeError for what AMQP cannot carry.
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
  // A message without a priority counts as priority 4.
  const wirePriority = foreign?.priorityFor(priority) ?? (priority > 0 ? NORMAL_PRIORITY + priority : undefined);
  if (wirePriority !== undefined) options.priority = wirePriority;
  foreign?.writeInto(options, body, login);
  // Dead-lettering from a wait queue removes the expiration, so the engine checks the time to live of delayed messages.
  if (ttlMs !== undefined && message.delayMs === 0 && ttlMs <= MAX_TTL_MS) options.expiration = Math.ceil(ttlMs);
  return options;
}

/** The longest header frame of amqplib: at most 64 KiB of headers, and 13 properties of 256 bytes. */
export const MAX_HEADER_FRAME_BYTES = 65_536 + 4_096;

/** Kind, channel and size, class, weight, length of the body, flags, end. */
const FRAME_BYTES = 7 + 12 + 2 + 1;

/** The bytes of the frame with a message's properties and headers. Numbers in headers count with their maximum. */
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

/** The body as amqplib needs it, without a copy. */
export function asBuffer(body: Uint8Array): Buffer {
  return Buffer.isBuffer(body) ? body : Buffer.from(body.buffer, body.byteOffset, body.byteLength);
}

/** Converts a delivery to the adapter contract. */
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
  const notRead = unread === undefined ? undefined : oneLine(unread.join(", "), MAX_NAMES_LENGTH);
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

/** The most characters of header names in a text. */
const MAX_NAMES_LENGTH = 400;

function headersNotRead(names: string): MessagingError {
  return new MessagingError(
    "invalid",
    `the client library cannot decode some headers of the message (${names}): they have an unknown type, or are nested too deep. Send them as strings; to handle the message without them, replay its dead letter with { incomplete: true }`,
  );
}

/** Converts a delivery of work. The expiration of a foreign message also limits its copies. */
export function incomingWork(
  message: ConsumeMessage,
  token: DeliveryToken,
  redeliveries: number,
): IncomingMessage<ConsumeMessage> {
  const plain = incoming(message, token, redeliveries);
  const { expiration } = message.properties;
  const afterMs = typeof expiration === "string" && MILLISECONDS.test(expiration) ? Number(expiration) : undefined;
  // Its age in the queue is unknown; it has not expired yet.
  return afterMs === undefined ? plain : { ...plain, expiresAt: Date.now() + afterMs };
}

function textOf(given: unknown): string | undefined {
  return typeof given === "string" ? given : undefined;
}

function publishedRoutingKey(exchange: string, routingKey: string): string | undefined {
  if (exchange === "") return undefined;
  // The exchange is that of the level in which it expired, or the delivery exchange.
  const published = exchange.startsWith(OWN_PREFIX) ? routingKeyBeforeDelay(routingKey) : routingKey;
  return published === "" ? undefined : published;
}

/**
 * The id of a message, or one derived from its content. Bytes that are not UTF-8 grow when amqplib decodes them, so the
 * id of another sender may be longer than AMQP allows, and a copy could not have it.
 */
export function messageId(message: ConsumeMessage): string {
  const given: unknown = message.properties.messageId;
  return isProperty(given) && given !== "" ? given : foreignId(message);
}

const NAMED: readonly (keyof MessageProperties)[] = ["timestamp", "correlationId", "type", "appId", "replyTo"];

/**
 * The id of a message without a usable one. RabbitMQ keeps no id of a message over redeliveries, so it is derived from
 * everything that the sender wrote: equal messages without an id have equal ids.
 */
function foreignId(message: ConsumeMessage): string {
  const hash = createHash("sha256");
  const { properties } = message;
  if (typeof properties.messageId === "string") hash.update(properties.messageId);
  hash.update(JSON.stringify([message.fields.routingKey, NAMED.map((name) => properties[name] ?? null)]));
  const { headers } = fromWire(properties.headers as Record<string, unknown> | undefined);
  hash.update(JSON.stringify(headers));
  hash.update(message.content);
  return `${DERIVED_ID}${hash.digest("hex").slice(0, 40)}`;
}
