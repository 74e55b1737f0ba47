import type { StartPosition } from "../core/adapter.ts";
import { parseDuration } from "../patterns/dead-letters/filter.ts";
import { CommandError } from "./exit-codes.ts";

/** What an address on the command line may say of a destination that the configuration does not have. */
export interface AddressOptions {
  readonly ordered?: true;
  readonly durable?: true;
  readonly priorities?: number;
  readonly ttlMs?: number;
  readonly filter?: string;
  readonly from?: StartPosition;
}

/** An address as it was written. */
export interface ParsedAddress {
  readonly kind: "queue" | "topic" | undefined;
  readonly name: string;
  readonly subscription: string | undefined;
  readonly options: AddressOptions;
}

/** How addresses are written, for messages and help texts. */
export const ADDRESS_SYNTAX = "queue:orders, topic:order.placed or topic:order.placed/billing";

const QUEUE_OPTIONS = ["ordered", "durable", "priorities", "ttl"];
const TOPIC_OPTIONS = ["ordered", "durable", "ttl"];
const SUBSCRIPTION_OPTIONS = ["filter", "from"];

/**
 * Reads `orders`, `queue:orders,ordered,priorities=5,ttl=1h`, `topic:geo/us,filter=geo.us.#,from=earliest`. Throws a
 * `CommandError` for what cannot be read. Names are checked by whoever uses them.
 */
export function parseAddress(text: string): ParsedAddress {
  const [place = "", ...settings] = text.split(",");
  const [, prefix, path = ""] = /^(?:([a-z]+):)?(.*)$/s.exec(place) ?? [];
  if (prefix !== undefined && prefix !== "queue" && prefix !== "topic")
    throw unreadable(text, `"${prefix}:" is neither`);
  const slash = path.indexOf("/");
  const name = slash < 0 ? path : path.slice(0, slash);
  const subscription = slash < 0 ? undefined : path.slice(slash + 1);
  if (name === "" || subscription === "") throw unreadable(text, "a name is missing");
  if (prefix === "queue" && subscription !== undefined) throw unreadable(text, "a queue has no subscriptions");
  const kind = prefix ?? (subscription === undefined ? undefined : "topic");
  const allowed =
    kind === "queue"
      ? QUEUE_OPTIONS
      : [
          ...(kind === undefined ? QUEUE_OPTIONS : TOPIC_OPTIONS),
          ...(subscription === undefined ? [] : SUBSCRIPTION_OPTIONS),
        ];
  return { kind, name, subscription, options: optionsOf(text, settings, allowed) };
}

function optionsOf(text: string, settings: readonly string[], allowed: readonly string[]): AddressOptions {
  const options: { -readonly [Name in keyof AddressOptions]: AddressOptions[Name] } = {};
  for (const setting of settings) {
    const [name = "", ...rest] = setting.split("=");
    const value = rest.length === 0 ? undefined : rest.join("=");
    if (!allowed.includes(name)) throw unreadable(text, `"${name}" is none of its options: ${allowed.join(", ")}`);
    if (name === "ordered" || name === "durable") {
      if (value !== undefined) throw unreadable(text, `"${name}" takes no value`);
      options[name] = true;
    } else if (value === undefined || value === "") throw unreadable(text, `"${name}" takes a value, as in ${name}=…`);
    else if (name === "priorities") options.priorities = wholeNumber(text, value);
    else if (name === "ttl") options.ttlMs = duration(`ttl of ${text}`, value);
    else if (name === "filter") options.filter = value;
    else options.from = position(text, value);
  }
  return options;
}

function wholeNumber(text: string, value: string): number {
  if (!/^\d{1,9}$/.test(value)) throw unreadable(text, `"${value}" is no whole number`);
  return Number(value);
}

function position(text: string, value: string): StartPosition {
  if (value === "now" || value === "earliest") return value;
  const time = new Date(value);
  if (Number.isNaN(time.getTime())) throw unreadable(text, `"from" takes now, earliest or an ISO 8601 time`);
  return time;
}

/** Milliseconds of a text such as `90s`. Throws a `CommandError` that names the option. */
export function duration(option: string, value: string): number {
  const milliseconds = parseDuration(value);
  if (milliseconds !== undefined) return milliseconds;
  throw new CommandError("usage", `${option} takes a duration such as 500ms, 90s, 15m, 1h or 2d, not "${value}"`);
}

function unreadable(text: string, why: string): CommandError {
  return new CommandError(
    "usage",
    `"${text}" is no address: ${why}. Write ${ADDRESS_SYNTAX}, or a name of the configuration`,
  );
}
