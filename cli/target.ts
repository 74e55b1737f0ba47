import type { StartPosition } from "../core/adapter.ts";
import { parseWorkAddress } from "../core/adapter-support.ts";
import { addressName, type TopicAddress, type WorkAddress, workAddress } from "../core/address.ts";
import {
  type Destination,
  type Queue,
  queue,
  type Subscription,
  subscription,
  type Topic,
  topic,
} from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { parseDuration } from "../patterns/dead-letters/filter.ts";
import { CommandError } from "./exit-codes.ts";

/** The options in an address, for a destination without configuration. */
interface AddressOptions {
  readonly ordered?: true;
  readonly durable?: true;
  readonly priorities?: number;
  readonly ttlMs?: number;
  readonly filter?: string;
  readonly from?: StartPosition;
}

/** A parsed address. */
interface ParsedAddress {
  readonly kind: "queue" | "topic" | undefined;
  readonly name: string;
  readonly subscription: string | undefined;
  readonly options: AddressOptions;
}

/** Examples of addresses, for messages and help texts. */
export const ADDRESS_SYNTAX = "queue:orders, topic:order.placed or topic:order.placed/billing";

const QUEUE_OPTIONS = ["ordered", "durable", "priorities", "ttl"];
const TOPIC_OPTIONS = ["ordered", "durable", "ttl"];
const SUBSCRIPTION_OPTIONS = ["filter", "from"];

/**
 * Parses an address: `orders`, `queue:orders,ordered,priorities=5,ttl=1h`, `topic:geo/us,filter=geo.us.#,from=earliest`.
 * Throws a `CommandError`. The caller checks names.
 */
export function parseAddress(text: string): ParsedAddress {
  const [place = "", ...settings] = text.split(",");
  const [, prefix, path = ""] = /^(?:([a-z]+):)?(.*)$/s.exec(place) ?? [];
  if (prefix !== undefined && prefix !== "queue" && prefix !== "topic")
    throw unreadable(text, `"${prefix}:" is neither queue: nor topic:`);
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
    if (!allowed.includes(name))
      throw unreadable(text, `it has no option "${name}"; the options are ${allowed.join(", ")}`);
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
  if (!/^\d{1,9}$/.test(value)) throw unreadable(text, `"${value}" is no integer from 0 up`);
  return Number(value);
}

function position(text: string, value: string): StartPosition {
  if (value === "now" || value === "earliest") return value;
  const time = new Date(value);
  if (Number.isNaN(time.getTime())) throw unreadable(text, `"from" takes now, earliest or an ISO 8601 time`);
  return time;
}

/** Parses a duration such as `90s`, in milliseconds. Throws a `CommandError` with the option's name. */
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

/** The destination of a command. */
export interface Target {
  readonly destination: Queue<never, unknown> | Topic<never, unknown>;
  /** The subscription of a topic, if named. */
  readonly subscription: Subscription | undefined;
  /** For messages: `orders`, `order.placed..billing`. */
  readonly name: string;
  /** Whether the configuration has it, with its schema and options. */
  readonly configured: boolean;
}

/** The destination of a target, for a broker object. */
export function destinationOf({ destination, subscription: sub }: Target): Destination {
  return sub ?? destination;
}

/** The address of a target. */
export function addressOf(target: Target): WorkAddress | TopicAddress {
  return placeOf(destinationOf(target));
}

/** The address of a destination. */
export function placeOf(destination: Destination): WorkAddress | TopicAddress {
  if (destination.kind === "subscription") return workAddress(destination.topic.name, destination.name);
  return { kind: destination.kind, name: destination.name };
}

/**
 * Finds the destination of an address: in the configuration, or as written with `queue:` or `topic:`. Throws a `CommandError`
 * with the right syntax.
 */
export function findTarget(text: string, known: readonly Destination[]): Target {
  const parsed = parseAddress(text);
  const found = inConfiguration(parsed, known);
  const [first, ...others] = found;
  if (first !== undefined) {
    if (others.length > 0)
      throw new CommandError("usage", `${text} is both a queue and a topic: write queue:${text} or topic:${text}`);
    if (Object.keys(parsed.options).length > 0) {
      throw new CommandError("usage", `${first.name} has its options in the configuration; remove those in ${text}`);
    }
    return first;
  }
  if (parsed.kind === undefined) throw unknownName(parsed, known);
  return asWritten(parsed, parsed.kind);
}

/**
 * As {@link findTarget}, for commands on queues and subscriptions: an unknown name is a queue on the broker, and
 * `order.placed..billing` a subscription.
 */
export function findWorkTarget(text: string, known: readonly Destination[]): Target {
  const parsed = parseAddress(text);
  if (parsed.kind !== undefined || inConfiguration(parsed, known).length > 0) return findTarget(text, known);
  const of = parseWorkAddress(parsed.name);
  const address = of?.kind === "subscription" ? { ...parsed, name: of.topic, subscription: of.name } : parsed;
  return asWritten(address, of?.kind === "subscription" ? "topic" : "queue");
}

function inConfiguration({ kind, name, subscription: sub }: ParsedAddress, known: readonly Destination[]): Target[] {
  const targets: Target[] = [];
  for (const one of known) {
    if (one.kind === "queue" && one.name === name && sub === undefined && kind !== "topic") {
      targets.push({ destination: one, subscription: undefined, name, configured: true });
    }
    if (one.kind === "subscription" && kind !== "queue") {
      const full = addressName(workAddress(one.topic.name, one.name));
      const asPath = one.topic.name === name && one.name === sub;
      // As commands print it: order.placed..billing.
      const asName = sub === undefined && name === full;
      if (asPath || asName) targets.push({ destination: one.topic, subscription: one, name: full, configured: true });
    }
  }
  if (targets.length > 0 && sub !== undefined) return targets;
  const topics = known.flatMap((one) =>
    one.kind === "topic" ? [one] : one.kind === "subscription" ? [one.topic] : [],
  );
  const found = kind === "queue" ? undefined : topics.find((one) => one.name === name);
  if (found === undefined) return targets;
  const of = sub === undefined ? undefined : subscription(found, sub);
  const full = of === undefined ? name : addressName(workAddress(name, of.name));
  return [...targets, { destination: found, subscription: of, name: full, configured: true }];
}

function asWritten({ name, subscription: sub, options }: ParsedAddress, kind: "queue" | "topic"): Target {
  try {
    if (kind === "queue") {
      const { filter: _, from: __, ...own } = options;
      return { destination: queue(name, own), subscription: undefined, name, configured: false };
    }
    const { filter, from, priorities: _, ...own } = options;
    const of = topic<never>(name, own);
    if (sub === undefined) return { destination: of, subscription: undefined, name, configured: false };
    const settings = { ...(filter === undefined ? {} : { filter }), ...(from === undefined ? {} : { from }) };
    const full = addressName(workAddress(name, sub));
    return { destination: of, subscription: subscription(of, sub, settings), name: full, configured: false };
  } catch (error) {
    throw isMessagingError(error) ? new CommandError("usage", error.message, { cause: error }) : error;
  }
}

function unknownName({ name, subscription: sub }: ParsedAddress, known: readonly Destination[]): CommandError {
  const shown = sub === undefined ? name : `${name}/${sub}`;
  const names = [...new Set(known.map(describeDestination))].join(", ");
  const has =
    known.length === 0 ? "there is no configuration that names destinations" : `the configuration has ${names}`;
  const how = sub === undefined ? `queue:${name} or topic:${name}/subscription` : `topic:${shown}`;
  return new CommandError("usage", `"${shown}" is unknown: ${has}. Write its kind: ${how}`);
}

/** The address of a destination on a command line. */
export function describeDestination(destination: Destination): string {
  if (destination.kind === "subscription") return `topic:${destination.topic.name}/${destination.name}`;
  return `${destination.kind}:${destination.name}`;
}

/** The destination of a command, for another command line; undefined if there is none. */
export function writtenAs(address: unknown, known: readonly Destination[] = []): string | undefined {
  try {
    return typeof address === "string" ? describeDestination(destinationOf(findWorkTarget(address, known))) : undefined;
  } catch {
    return undefined;
  }
}
