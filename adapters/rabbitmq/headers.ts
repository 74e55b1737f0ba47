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

/** The most bytes of a header name on the wire. */
const LONGEST_NAME_BYTES = 255;

/** Headers for amqplib, or undefined if there are none. Throws a RangeError that names a name too long for AMQP. */
export function toWire(
  headers: Headers,
  key: string | undefined,
  routingKey: string | undefined,
): Record<string, string> | undefined {
  let wire: Record<string, string> | undefined;
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined) continue;
    wire ??= Object.create(null) as Record<string, string>;
    wire[wireName(name)] = value;
  }
  if (key !== undefined) {
    wire ??= Object.create(null) as Record<string, string>;
    wire[KEY_HEADER] = key;
  }
  if (routingKey !== undefined) {
    wire ??= Object.create(null) as Record<string, string>;
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

/** What stood in the headers of a delivery. */
export interface FromWire {
  readonly headers: Headers;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
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
  for (const name of wire === undefined ? [] : Object.keys(wire)) {
    const value = wire?.[name];
    if (name === KEY_HEADER) {
      if (typeof value === "string") key = value;
    } else if (name === ROUTING_KEY_HEADER) {
      if (typeof value === "string") routingKey = value;
    } else if (!OWN.test(name)) {
      const string = typeof value === "string" ? value : foreignText(value);
      if (string !== undefined) headers[name.startsWith(ESCAPE) ? name.slice(ESCAPE.length) : name] = string;
    }
  }
  return { headers, key, routingKey };
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
