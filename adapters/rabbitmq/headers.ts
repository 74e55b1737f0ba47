import { isUint8Array } from "node:util/types";
import type { Headers } from "../../core/delivery.ts";

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
  headers: Headers,
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
export interface TypedHeader {
  readonly wireName: string;
  /** What handlers read in its place; undefined where they find no such header. */
  readonly text: string | undefined;
  readonly value: unknown;
}

/** What stood in the headers of a delivery. */
export interface FromWire {
  readonly headers: Headers;
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
