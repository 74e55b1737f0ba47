import { createHash } from "node:crypto";
import type { ConsumeMessage, MessageProperties, Options } from "amqplib";
import type { DeliveryToken, IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import { DERIVED_ID } from "../../core/message-ids.ts";
import { routingKeyBeforeDelay } from "./delay-levels.ts";
import { AmqpProperties, fromWirePriority, NORMAL_PRIORITY, sentAt } from "./foreign-properties.ts";
import { fromWire, toWire } from "./headers.ts";
import { OWN_PREFIX } from "./names.ts";

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
  return {
    token,
    id: messageId(message),
    key,
    routingKey: routingKey ?? publishedRoutingKey(fields.exchange, fields.routingKey),
    headers,
    body: message.content,
    contentType: properties.contentType as string | undefined,
    redeliveries,
    priority: fromWirePriority(properties.priority),
    ...(foreign === undefined
      ? undefined
      : { foreign, sentAt: sentAt(properties.timestamp), contentEncoding: textOf(properties.contentEncoding) }),
    native: message,
  };
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
