import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { StartOffset, StartPosition } from "./adapter.ts";
import { checkFilter, checkInteger, checkName, checkOptions } from "./checks.ts";
import type { Codec } from "./codec.ts";
import { MessagingError } from "./errors.ts";

/** The options that queues and topics share. `Body` is the type that is sent. */
export interface DestinationOptions<Body> {
  /**
   * Returns the key of a message, such as the order's number: order is kept by it, and people find messages by it.
   * Undefined for a message without a key. A key in the send options overrides it.
   */
  readonly key?: (body: Body) => string | undefined;
  /**
   * Whether messages of one key are handled one after another, in the order of their sending. A failing message blocks its
   * own key until it succeeds or is dead-lettered; other keys continue. Default false. Refused on a broker without `order`.
   */
  readonly ordered?: boolean;
  /** How bodies become bytes. Default: JSON. */
  readonly codec?: Codec;
  /** Refuse to start on a broker whose confirmed messages do not survive its restart. Default false. */
  readonly durable?: boolean;
  /** Milliseconds after which an undelivered message is dead-lettered with the reason `expired`. Default: never. */
  readonly ttlMs?: number;
  /**
   * What happens to tombstones: records of a Kafka topic with a key and no value, which mark the key as deleted.
   *
   * - `dead-letter` (default): they are dead-lettered with the reason `invalid`. Only with a codec of
   *   `application/octet-stream` do handlers get an empty body instead.
   * - `skip`: they count as handled.
   * - `null`: the handler gets the body `null`, which the schema has to accept.
   */
  readonly tombstones?: Tombstones;
}

/** See {@link DestinationOptions.tombstones}. */
export type Tombstones = "dead-letter" | "skip" | "null";

/** The options of {@link queue}. `Body` is the type that is sent. */
export interface QueueOptions<Body> extends DestinationOptions<Body> {
  /** The number of priorities: messages have 0 (lowest) to `priorities - 1`. Default 1: none. */
  readonly priorities?: number;
}

/** The options of {@link topic}. `Body` is the type that is published. */
export interface TopicOptions<Body> extends DestinationOptions<Body> {
  /** Returns the key that subscriptions filter by, such as `geo.us.ny`. One in the publish options overrides it. */
  readonly routingKey?: (body: Body) => string | undefined;
  /**
   * What happens to an event that no subscription takes, where the broker reports it: `reject` fails the publish with
   * `unroutable`, `discard` ignores it. Default `reject`.
   */
  readonly whenUnroutable?: "reject" | "discard";
}

declare const BODY: unique symbol;

/**
 * A work queue: one of the competing consumers handles each message. `Input` is the type that is sent, `Output` the type
 * that the schema makes of it for the handler.
 */
export interface Queue<Input, Output = Input> {
  readonly kind: "queue";
  readonly name: string;
  readonly options: QueueOptions<Input>;
  readonly schema: StandardSchemaV1 | undefined;
  /** Exists only in types, to keep queues of different bodies apart. */
  readonly [BODY]?: (input: Input) => Output;
}

/** A topic of events: every named subscription gets a copy of each event. */
export interface Topic<Input, Output = Input> {
  readonly kind: "topic";
  readonly name: string;
  readonly options: TopicOptions<Input>;
  readonly schema: StandardSchemaV1 | undefined;
  /** Exists only in types, to keep topics of different bodies apart. */
  readonly [BODY]?: (input: Input) => Output;
}

/** The options of {@link subscription}. */
export interface SubscriptionOptions {
  /**
   * Takes only events whose routing key matches: words between dots, `*` for one word, `#` for any number of words.
   * Default: all events. Only `#` matches an event without a routing key. Copies (retries, replayed dead letters) are
   * never filtered. The effect of a changed filter on waiting events depends on the broker.
   */
  readonly filter?: string;
  /**
   * Where a new subscription begins: with the events from now on, the oldest event kept, a point in time, or offsets.
   * Default `now`; the others are refused on a broker without `rewind`. `Broker.rewind` moves an existing subscription.
   */
  readonly from?: StartPosition;
}

/** A named subscription of a topic, which is declared without consuming from it. */
export interface Subscription {
  readonly kind: "subscription";
  readonly topic: Topic<never, unknown>;
  readonly name: string;
  readonly options: SubscriptionOptions;
}

/** Anything that a broker can declare. */
export type Destination = Queue<never, unknown> | Topic<never, unknown> | Subscription;

const DESTINATION_OPTIONS = ["schema", "key", "ordered", "codec", "durable", "ttlMs", "tombstones"];
const QUEUE_OPTIONS = [...DESTINATION_OPTIONS, "priorities"];
const TOPIC_OPTIONS = [...DESTINATION_OPTIONS, "routingKey", "whenUnroutable"];
const SUBSCRIPTION_OPTIONS = ["filter", "from"];
const MOST_PRIORITIES = 32;
const TOMBSTONES: readonly Tombstones[] = ["dead-letter", "skip", "null"];

/**
 * Names a work queue and the type of its messages. With a schema (any Standard Schema) bodies are checked at sending and
 * parsed before handling; without one the type parameter is trusted. Two calls with one name mean the same queue. Throws
 * `invalid` for a bad name or option.
 */
export function queue<Schema extends StandardSchemaV1>(
  name: string,
  options: QueueOptions<StandardSchemaV1.InferInput<Schema>> & { readonly schema: Schema },
): Queue<StandardSchemaV1.InferInput<Schema>, StandardSchemaV1.InferOutput<Schema>>;
export function queue<Body>(name: string, options?: QueueOptions<Body>): Queue<Body>;
export function queue(
  name: string,
  options: QueueOptions<unknown> & { readonly schema?: StandardSchemaV1 } = {},
): Queue<unknown> {
  checkName("queue", name);
  checkOptions(`queue("${name}")`, options, QUEUE_OPTIONS);
  checkDestination(`queue("${name}")`, options);
  if (options.priorities !== undefined) {
    checkInteger(`queue("${name}", { priorities })`, options.priorities, 1, MOST_PRIORITIES);
  }
  const { schema, ...rest } = options;
  return Object.freeze({ kind: "queue", name, options: Object.freeze(rest), schema });
}

/** Names a topic and the type of its events; see {@link queue}. Throws `invalid` for a bad name or option. */
export function topic<Schema extends StandardSchemaV1>(
  name: string,
  options: TopicOptions<StandardSchemaV1.InferInput<Schema>> & { readonly schema: Schema },
): Topic<StandardSchemaV1.InferInput<Schema>, StandardSchemaV1.InferOutput<Schema>>;
export function topic<Body>(name: string, options?: TopicOptions<Body>): Topic<Body>;
export function topic(
  name: string,
  options: TopicOptions<unknown> & { readonly schema?: StandardSchemaV1 } = {},
): Topic<unknown> {
  checkName("topic", name);
  checkOptions(`topic("${name}")`, options, TOPIC_OPTIONS);
  checkDestination(`topic("${name}")`, options);
  const { whenUnroutable } = options;
  if (whenUnroutable !== undefined && whenUnroutable !== "reject" && whenUnroutable !== "discard") {
    throw new MessagingError(
      "invalid",
      `topic("${name}", { whenUnroutable }) takes "reject" or "discard", not ${String(whenUnroutable)}`,
    );
  }
  const { schema, ...rest } = options;
  return Object.freeze({ kind: "topic", name, options: Object.freeze(rest), schema });
}

/**
 * Names a subscription of a topic, for `createBroker(adapter, { destinations: [subscription(placed, "billing")] })`. It is
 * declared at start, and stores events from then on, also without a consumer.
 */
export function subscription<Input, Output>(
  of: Topic<Input, Output>,
  name: string,
  options: SubscriptionOptions = {},
): Subscription {
  const where = `subscription(topic "${of.name}", "${name}")`;
  checkName("subscription", name);
  checkOptions(where, options, SUBSCRIPTION_OPTIONS);
  checkSubscription(where, options);
  return Object.freeze({ kind: "subscription", topic: of, name, options: { ...options } });
}

/** Throws `invalid` for wrong options of a subscription. */
export function checkSubscription(where: string, options: SubscriptionOptions): void {
  if (options.filter !== undefined) checkFilter(`${where} { filter }`, options.filter);
  if (options.from !== undefined) checkPosition(`${where} { from }`, options.from);
}

/** Throws `invalid` for anything that is no position in a subscription. */
export function checkPosition(where: string, position: StartPosition): void {
  if (position === "now" || position === "earliest") return;
  if (position instanceof Date && !Number.isNaN(position.getTime())) return;
  const given = position as { readonly offsets?: readonly StartOffset[] } | null | undefined;
  if (!Array.isArray(given?.offsets) || given.offsets.length === 0) {
    throw new MessagingError("invalid", `${where} takes "now", "earliest", a valid Date or { offsets }`);
  }
  const partitions = new Set<number>();
  for (const start of given.offsets as readonly (StartOffset | null | undefined)[]) {
    const partition = start?.partition ?? Number.NaN;
    checkInteger(`${where} { offsets: [{ partition }] }`, partition, 0);
    checkInteger(`${where} { offsets: [{ offset }] }`, start?.offset ?? Number.NaN, 0);
    if (partitions.has(partition)) throw new MessagingError("invalid", `${where} names partition ${partition} twice`);
    partitions.add(partition);
  }
}

function checkDestination(where: string, options: DestinationOptions<unknown> & { schema?: unknown }): void {
  if (options.ttlMs !== undefined) checkInteger(`${where} { ttlMs }`, options.ttlMs, 1);
  const { schema, codec, tombstones } = options;
  if (tombstones !== undefined && !TOMBSTONES.includes(tombstones)) {
    throw new MessagingError(
      "invalid",
      `${where} { tombstones } takes "dead-letter", "skip" or "null", not ${String(tombstones)}`,
    );
  }
  if (schema !== undefined && typeof (schema as StandardSchemaV1 | null)?.["~standard"]?.validate !== "function") {
    throw new MessagingError(
      "invalid",
      `${where} { schema } takes a Standard Schema, such as one from zod, valibot or arktype`,
    );
  }
  if (codec === undefined) return;
  if (typeof codec?.encode !== "function" || typeof codec.decode !== "function") {
    throw new MessagingError("invalid", `${where} { codec } takes an object with contentType, encode and decode`);
  }
  if (typeof codec.contentType !== "string" || !CONTENT_TYPE.test(codec.contentType)) {
    const what = `${where} { codec: { contentType } } takes a text of printable ASCII, such as "application/json"`;
    throw new MessagingError("invalid", `${what}, with at most 255 characters`);
  }
}

/** What every broker can carry. AMQP has the shortest limit. */
const CONTENT_TYPE = /^[\x20-\x7e]{1,255}$/;

/** The most bytes of a routing key that AMQP carries. */
const LONGEST_ROUTING_KEY_BYTES = 255;

/**
 * Whether a routing key matches a filter: `*` is one word, `#` is any number of words, also none. A key over 255 bytes,
 * which AMQP cannot carry, matches only filters that match everything. It takes words × parts steps at most.
 */
export function routingMatches(filter: string, routingKey: string | undefined): boolean {
  const pattern = filter.split(".");
  if (routingKey !== undefined && isTooLong(routingKey)) return pattern.every((part) => part === "#");
  return matches(pattern, routingKey === undefined ? [] : routingKey.split("."));
}

function isTooLong(routingKey: string): boolean {
  return routingKey.length > LONGEST_ROUTING_KEY_BYTES || Buffer.byteLength(routingKey) > LONGEST_ROUTING_KEY_BYTES;
}

/** Backtracks only to the last `#`: once a later `#` is reached, earlier ones never have to change. */
function matches(pattern: readonly string[], words: readonly string[]): boolean {
  let at = 0;
  let word = 0;
  let behindWildcard: number | undefined;
  let taken = 0;
  while (word < words.length) {
    const part = pattern[at];
    if (part === "#") {
      behindWildcard = ++at;
      taken = word;
    } else if (part !== undefined && (part === "*" || part === words[word])) {
      at++;
      word++;
    } else if (behindWildcard !== undefined) {
      at = behindWildcard;
      word = ++taken;
    } else return false;
  }
  return pattern.slice(at).every((part) => part === "#");
}
