import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { StartOffset, StartPosition } from "./adapter.ts";
import { checkFilter, checkInteger, checkName, checkOptions } from "./checks.ts";
import type { Codec } from "./codec.ts";
import { MessagingError } from "./errors.ts";

/** What queues and topics have in common. `Body` is what is sent. */
export interface DestinationOptions<Body> {
  /**
   * What a message is kept in order with, and shown by: for example the order's number. A key given at sending comes
   * before it. Undefined for a message without a key.
   */
  readonly key?: (body: Body) => string | undefined;
  /**
   * Whether messages of one key are handled one after another, in the order of their sending. A failing message then
   * holds its own key until it succeeds or is dead-lettered; other keys go on. Default false. Refused on a broker
   * without `order`.
   */
  readonly ordered?: boolean;
  /** How bodies become bytes. Default: JSON. */
  readonly codec?: Codec;
  /** Refuse to start on a broker whose confirmed messages do not survive its restart. Default false. */
  readonly durable?: boolean;
  /**
   * Milliseconds after which a message that was not delivered yet goes to the dead letters with reason `expired`.
   * Default: never.
   */
  readonly ttlMs?: number;
  /**
   * What becomes of tombstones, where the broker has them: records of a Kafka topic with a key and no value, which say that
   * what the key names was deleted. `dead-letter` makes them dead letters that say so, with reason `invalid`; only with a
   * codec of `application/octet-stream` handlers get no bytes instead. `skip` counts them as handled. `null` gives them to
   * the handler as the body `null`, behind the schema, which has to take that. Default `dead-letter`.
   */
  readonly tombstones?: Tombstones;
}

/** See {@link DestinationOptions.tombstones}. */
export type Tombstones = "dead-letter" | "skip" | "null";

/** The options of {@link queue}. `Body` is what is sent. */
export interface QueueOptions<Body> extends DestinationOptions<Body> {
  /** How many priorities the queue has; messages are sent with 0 (lowest) to `priorities - 1`. Default 1: none. */
  readonly priorities?: number;
}

/** The options of {@link topic}. `Body` is what is published. */
export interface TopicOptions<Body> extends DestinationOptions<Body> {
  /** What subscriptions filter by, as in `geo.us.ny`. A routing key given at publishing comes before it. */
  readonly routingKey?: (body: Body) => string | undefined;
  /**
   * What happens to an event that no subscription takes, where the broker can tell: `reject` fails the publish with
   * `unroutable`, `discard` lets it go. Default `reject`.
   */
  readonly whenUnroutable?: "reject" | "discard";
}

declare const BODY: unique symbol;

/**
 * Work: each message is handled by one of the competing consumers. `Input` is what is sent, `Output` what the schema
 * makes of it for the handler.
 */
export interface Queue<Input, Output = Input> {
  readonly kind: "queue";
  readonly name: string;
  readonly options: QueueOptions<Input>;
  readonly schema: StandardSchemaV1 | undefined;
  /** Only in types: keeps queues of other bodies apart. */
  readonly [BODY]?: (input: Input) => Output;
}

/** Events: every named subscription gets its own copy of each. */
export interface Topic<Input, Output = Input> {
  readonly kind: "topic";
  readonly name: string;
  readonly options: TopicOptions<Input>;
  readonly schema: StandardSchemaV1 | undefined;
  /** Only in types: keeps topics of other bodies apart. */
  readonly [BODY]?: (input: Input) => Output;
}

/** What a subscription is, apart from how it is consumed. */
export interface SubscriptionOptions {
  /**
   * Take only events whose routing key matches: words between dots, `*` for one word, `#` for any number of words.
   * Default: all. An event without a routing key has the empty one, which only `#` matches. Copies (retries, replayed dead
   * letters) are never filtered; what a changed filter makes of events that wait depends on the broker.
   */
  readonly filter?: string;
  /**
   * Where the subscription begins if it does not exist yet: with what is published from now on, the oldest event kept,
   * a point in time, or offsets. Default `now`; the others are refused on a broker without `replay`. One that exists is
   * moved by `Broker.rewind`.
   */
  readonly from?: StartPosition;
}

/** A named subscription of a topic, to be declared without consuming from it. */
export interface Subscription {
  readonly kind: "subscription";
  readonly topic: Topic<never, unknown>;
  readonly name: string;
  readonly options: SubscriptionOptions;
}

/** What a broker can be told to declare. */
export type Destination = Queue<never, unknown> | Topic<never, unknown> | Subscription;

const DESTINATION_OPTIONS = ["schema", "key", "ordered", "codec", "durable", "ttlMs", "tombstones"];
const QUEUE_OPTIONS = [...DESTINATION_OPTIONS, "priorities"];
const TOPIC_OPTIONS = [...DESTINATION_OPTIONS, "routingKey", "whenUnroutable"];
const SUBSCRIPTION_OPTIONS = ["filter", "from"];
const MOST_PRIORITIES = 32;
const TOMBSTONES: readonly Tombstones[] = ["dead-letter", "skip", "null"];

/**
 * Names a work queue and the type of its messages. With a schema (any Standard Schema) bodies are checked when they are
 * sent and parsed when they are handled; without one the type parameter is trusted. Throws `invalid` for a bad name or
 * option. Two calls with one name mean the same queue.
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

/**
 * Names a topic and the type of its events; see {@link queue}. Throws `invalid` for a bad name or option.
 */
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
 * Names a subscription of a topic, for `createBroker(adapter, { destinations: [subscription(placed, "billing")] })`:
 * it is declared at start and gathers events from then on, also while nobody consumes from it.
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

/** Refuses the options of a subscription that are wrong in themselves. */
export function checkSubscription(where: string, options: SubscriptionOptions): void {
  if (options.filter !== undefined) checkFilter(`${where} { filter }`, options.filter);
  if (options.from !== undefined) checkPosition(`${where} { from }`, options.from);
}

/** Refuses what is no position in a subscription. */
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
  if (codec !== undefined && (typeof codec.encode !== "function" || typeof codec.decode !== "function")) {
    throw new MessagingError("invalid", `${where} { codec } takes an object with contentType, encode and decode`);
  }
}
