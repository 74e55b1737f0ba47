import { createHash } from "node:crypto";
import type { ConsumeMessage, MessageProperties, Options } from "amqplib";
import type { DeliveryToken, IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import { DERIVED_ID } from "../../core/message-ids.ts";
import { routingKeyBeforeDelay } from "./delay-levels.ts";
import { fromWire, toWire } from "./headers.ts";
import { OWN_PREFIX } from "./names.ts";

/** RabbitMQ takes no longer time to live; a longer one is left to the check at delivery. */
export const LONGEST_TTL_MS = 2 ** 32 - 1;

/**
 * AMQP properties of a message. `toTopic` tells that AMQP's routing key is the message's own; elsewhere it goes in a
 * header. Throws a RangeError for what AMQP cannot carry.
 */
export function publishOptions(message: OutgoingMessage, toTopic: boolean): Options.Publish {
  const { ttlMs } = message;
  const options: Options.Publish = {
    mandatory: true,
    persistent: true,
    messageId: message.id,
    contentType: message.contentType,
    headers: toWire(message.headers, message.key, toTopic ? undefined : message.routingKey),
    // Written even if 0: RabbitMQ 4 takes a message without a priority for one of 4.
    priority: message.priority,
  };
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
  const { headers, key, routingKey } = fromWire(wire);
  return {
    token,
    id: messageId(message),
    key,
    routingKey: routingKey ?? publishedRoutingKey(fields.exchange, fields.routingKey),
    headers,
    body: message.content,
    contentType: properties.contentType as string | undefined,
    redeliveries,
    ...(typeof properties.priority === "number" ? { priority: properties.priority } : undefined),
    native: message,
  };
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
