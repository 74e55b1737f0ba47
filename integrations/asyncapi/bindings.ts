import { WIRE_HEADER } from "../../adapters/kafka/message-codec.ts";
import { physicalName as kafkaName } from "../../adapters/kafka/names.ts";
import { KEY_HEADER, ROUTING_KEY_HEADER } from "../../adapters/rabbitmq/message-codec.ts";
import { physicalName as rabbitMQName } from "../../adapters/rabbitmq/names.ts";
import { filterPolicy } from "../../adapters/sqs/filter-policy.ts";
import { ROUTING_KEY } from "../../adapters/sqs/message-codec.ts";
import { FIFO, physicalName as sqsName } from "../../adapters/sqs/names.ts";
import type { Adapter, SubscriptionDeclaration } from "../../core/adapter.ts";
import { type Address, addressName, type WorkAddress } from "../../core/address.ts";
import { checkInteger, checkOptions, optionalText } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";

const BINDING_VERSION = { bindingVersion: "0.5.0" };

/** The options of {@link kafkaBindings}, for the document. */
export interface KafkaBindingsOptions {
  /** As in `kafka({ partitions })`. Default: left out. */
  readonly partitions?: number;
  /** As in `kafka({ replicationFactor })`. Default: left out. */
  readonly replicationFactor?: number;
}

/**
 * The bindings of Kafka, with the topic and group names of `anybroker/kafka`. Needs no client. Throws `invalid` for wrong
 * options.
 */
export function kafkaBindings(options: KafkaBindingsOptions = {}): BrokerBindings {
  checkOptions("kafkaBindings", options, ["partitions", "replicationFactor"]);
  const { partitions, replicationFactor } = options;
  if (partitions !== undefined) checkInteger("kafkaBindings { partitions }", partitions, 1);
  if (replicationFactor !== undefined) checkInteger("kafkaBindings { replicationFactor }", replicationFactor, 1);
  return kafkaBindingsUnder(kafkaName, options);
}

/** The bindings of Kafka with an adapter's names. */
function kafkaBindingsUnder(
  physicalName: PhysicalName,
  { partitions, replicationFactor }: KafkaBindingsOptions = {},
): BrokerBindings {
  const nameOf = (address: Address): string => bareName(physicalName(address));
  const read = ({ address }: DescribedDestination): Address =>
    address.kind === "subscription" ? { kind: "topic", name: address.topic } : address;
  return {
    physicalName,
    subscriptionsApart: false,
    messages: {
      headers: {
        [WIRE_HEADER.id]: { type: "string", description: "The message's id, the same over retries and replays." },
        [WIRE_HEADER.contentType]: { type: "string", description: "The content type of the body." },
        [WIRE_HEADER.routingKey]: {
          type: "string",
          description: "The routing key, if the event has one; subscriptions filter by it.",
        },
      },
      required: [WIRE_HEADER.contentType, WIRE_HEADER.id],
      idLocation: `$message.header#/${WIRE_HEADER.id}`,
      bindings: {
        kafka: {
          key: { type: "string", description: "The message's key, if it has one; messages of one key stay in order." },
          ...BINDING_VERSION,
        },
      },
    },
    channel(of) {
      const topic = nameOf(read(of));
      return {
        address: topic,
        bindings: { kafka: given({ topic, partitions, replicas: replicationFactor, ...BINDING_VERSION }) },
      };
    },
    operation(action, { address }) {
      if (action === "send") return undefined;
      return { kafka: { groupId: { type: "string", enum: [nameOf(address)] }, ...BINDING_VERSION } };
    },
  };
}

const AMQP_BINDING_VERSION = { bindingVersion: "0.3.0" };

/** The options of {@link rabbitmqBindings}. */
export interface RabbitMQBindingsOptions {
  /** The virtual host. Default: left out, which means `/`. */
  readonly vhost?: string;
}

/**
 * The bindings of AMQP 0-9-1, with the queue and exchange names of `anybroker/rabbitmq`. Needs no client. Throws `invalid`
 * for wrong options.
 */
export function rabbitmqBindings(options: RabbitMQBindingsOptions = {}): BrokerBindings {
  checkOptions("rabbitmqBindings", options, ["vhost"]);
  return amqpBindings(rabbitMQName, optionalText("rabbitmqBindings", "vhost", options.vhost));
}

/** The bindings of AMQP with an adapter's names. */
function amqpBindings(physicalName: PhysicalName, vhost?: string): BrokerBindings {
  return {
    physicalName,
    subscriptionsApart: true,
    messages: {
      headers: {
        [KEY_HEADER]: {
          type: "string",
          description: "The message's key, if it has one; messages of one key stay in order.",
        },
        [ROUTING_KEY_HEADER]: {
          type: "string",
          description:
            "The routing key of an event that was sent to one queue again; there AMQP's own routing key is the queue's name.",
        },
      },
    },
    channel({ address }) {
      const name = bareName(physicalName(address));
      if (address.kind === "topic") {
        const exchange = given({ name, type: "topic", durable: true, autoDelete: false, vhost });
        return {
          address: "{routingKey}",
          parameters: {
            routingKey: { description: "The routing key that subscriptions filter by; empty if the event has none." },
          },
          bindings: { amqp: { is: "routingKey", exchange, ...AMQP_BINDING_VERSION } },
        };
      }
      const queue = given({ name, durable: true, exclusive: false, autoDelete: false, vhost });
      return { address: name, bindings: { amqp: { is: "queue", queue, ...AMQP_BINDING_VERSION } } };
    },
    operation(action, { ttlMs }) {
      if (action === "receive") return { amqp: { ack: true, ...AMQP_BINDING_VERSION } };
      return { amqp: given({ deliveryMode: 2, mandatory: true, expiration: ttlMs, ...AMQP_BINDING_VERSION }) };
    },
  };
}

const SQS_VERSION = { bindingVersion: "0.2.0" };
const SNS_VERSION = { bindingVersion: "0.1.0" };

/** The options of {@link sqsBindings}. */
export interface SqsBindingsOptions {
  /** As in `sqs({ namePrefix })`. Default: none. */
  readonly namePrefix?: string;
  /** As in `sqs({ maxReceives })`. Default: left out. */
  readonly maxReceives?: number;
}

/**
 * The bindings of SQS and SNS, with the queue and topic names of `anybroker/sqs`. Needs no clients. Throws `invalid` for
 * wrong options.
 */
export function sqsBindings(options: SqsBindingsOptions = {}): BrokerBindings {
  checkOptions("sqsBindings", options, ["namePrefix", "maxReceives"]);
  const { namePrefix = "", maxReceives } = options;
  if (typeof namePrefix !== "string") throw new MessagingError("invalid", "sqsBindings { namePrefix } takes a string");
  if (maxReceives !== undefined) checkInteger("sqsBindings { maxReceives }", maxReceives, 1, 1_000);
  return sqsBindingsUnder((address) => sqsName(address, namePrefix), maxReceives);
}

/** The bindings of SQS and SNS with an adapter's names. */
function sqsBindingsUnder(physicalName: PhysicalName, maxReceives?: number): BrokerBindings {
  const nameOf = (address: Address, fifo: boolean): string => bareName(physicalName(address)) + (fifo ? FIFO : "");
  const queueOf = (address: WorkAddress, fifo: boolean): JsonObject => {
    const deadLetterQueue = { name: nameOf({ kind: "dead-letters", of: address }, fifo) };
    const redrivePolicy = given({ deadLetterQueue, maxReceiveCount: maxReceives });
    return { name: nameOf(address, fifo), fifoQueue: fifo, redrivePolicy };
  };
  return {
    physicalName,
    subscriptionsApart: true,
    messages: {
      headers: {
        anybroker: {
          type: "string",
          contentMediaType: "application/json",
          description:
            "A JSON object: the message's id, its key, the content type if it is not JSON, the encoding of the body if it is not text, and as `headers` the engine's headers and those that did not fit beside this one.",
        },
        [ROUTING_KEY]: {
          type: "string",
          description: "The routing key, if the event has one; subscriptions filter by it.",
        },
      },
      required: ["anybroker"],
      packed: true,
    },
    channel({ address, ordered }) {
      const name = nameOf(address, ordered);
      if (address.kind === "topic") {
        const ordering = { type: ordered ? "FIFO" : "standard" };
        return { address: name, bindings: { sns: { name, ordering, ...SNS_VERSION } } };
      }
      const dead = { name: nameOf({ kind: "dead-letters", of: address }, ordered), fifoQueue: ordered };
      return {
        address: name,
        bindings: { sqs: { queue: queueOf(address, ordered), deadLetterQueue: dead, ...SQS_VERSION } },
      };
    },
    operation(_action, { address, ordered, subscriptions }: DescribedDestination) {
      if (address.kind !== "topic") {
        return { sqs: { queues: [{ name: nameOf(address, ordered), fifoQueue: ordered }], ...SQS_VERSION } };
      }
      // AsyncAPI requires at least one consumer.
      if (subscriptions.length === 0) return undefined;
      const consumers = subscriptions.map((subscription) =>
        consumerOf(nameOf(subscription.address, ordered), subscription),
      );
      return { sns: { topic: { name: nameOf(address, ordered) }, consumers, ...SNS_VERSION } };
    },
  };
}

function consumerOf(queue: string, { filter }: SubscriptionDeclaration): JsonObject {
  const text = filterPolicy(filter);
  const policy = text === undefined ? {} : (JSON.parse(text) as Readonly<Record<string, readonly JsonValue[]>>);
  // AsyncAPI's schema allows only strings here, and a filter with a final wildcard is a prefix object.
  const plain = Object.values(policy).every((values) => values.every((value) => typeof value === "string"));
  return given({
    protocol: "sqs",
    endpoint: { name: queue },
    rawMessageDelivery: true,
    [plain ? "filterPolicy" : "x-filterPolicy"]: text === undefined ? undefined : policy,
  });
}

/** A destination of a document. */
export interface DescribedDestination {
  readonly address: WorkAddress | (Address & { readonly kind: "topic" });
  readonly ordered: boolean;
  readonly ttlMs: number | undefined;
  /** Of a subscription. */
  readonly filter: string | undefined;
  /** Of a topic: its subscriptions in the document. */
  readonly subscriptions: readonly SubscriptionDeclaration[];
}

/** The part of a channel that depends on the broker. */
export interface BrokerChannel {
  readonly address: string;
  readonly parameters?: JsonObject;
  readonly bindings?: JsonObject;
}

/** The part of every message that depends on the broker. */
export interface BrokerMessages {
  /** The headers that the adapter adds, by name, with their schemas. */
  readonly headers: Readonly<Record<string, JsonObject>>;
  /** Headers that every message has. Default: none. */
  readonly required?: readonly string[];
  /** Whether the engine's headers are packed into one of these headers. Default false. */
  readonly packed?: boolean;
  /** The location of the message's id as an AsyncAPI runtime expression, if it has one. */
  readonly idLocation?: string;
  readonly bindings?: JsonObject;
}

/**
 * The part of a document that depends on the broker. Made by `rabbitmqBindings`, `kafkaBindings` and `sqsBindings`. Implement
 * it for your own broker.
 */
export interface BrokerBindings {
  /** See `Adapter.physicalName`. */
  physicalName(address: Address): string;
  /** Whether the broker stores a subscription apart from its topic. */
  readonly subscriptionsApart: boolean;
  readonly messages: BrokerMessages;
  channel(of: DescribedDestination): BrokerChannel;
  /** The bindings of an operation, if it has any. */
  operation(action: "send" | "receive", of: DescribedDestination): JsonObject | undefined;
}

/** Maps an address to its physical name. */
type PhysicalName = (address: Address) => string;

/** A physical name without its kind. */
function bareName(physicalName: string): string {
  return physicalName.slice(physicalName.indexOf(" ") + 1);
}

/** The bindings of an unknown broker: logical names only. */
export function plainBindings(): BrokerBindings {
  return {
    physicalName: (address) => `${address.kind === "topic" ? "topic" : "queue"} ${addressName(address)}`,
    subscriptionsApart: false,
    messages: { headers: {} },
    channel: ({ address }) => ({ address: addressName(address) }),
    operation: () => undefined,
  };
}

/** The bindings of an adapter's broker with its names; plain ones for an unknown broker. */
export function bindingsOfAdapter(adapter: Adapter): BrokerBindings {
  const physicalName = adapter.physicalName.bind(adapter);
  switch (adapter.name) {
    case "rabbitmq":
      return amqpBindings(physicalName);
    case "kafka":
      return kafkaBindingsUnder(physicalName);
    case "sqs":
      return sqsBindingsUnder(physicalName);
    default:
      return { ...plainBindings(), physicalName };
  }
}

/** A JSON value. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  readonly [name: string]: JsonValue;
}

/** The `info` of a document: title, version and other fields of AsyncAPI. */
export interface AsyncApiInfo extends JsonObject {
  readonly title: string;
  readonly version: string;
}

/** A server of a document: host, protocol such as `amqps`, and other fields of AsyncAPI. */
export interface AsyncApiServer extends JsonObject {
  readonly host: string;
  readonly protocol: string;
}

/** An AsyncAPI 3.0 document as plain data, for `JSON.stringify` or a YAML writer. */
export interface AsyncApiDocument {
  readonly asyncapi: "3.0.0";
  readonly info: AsyncApiInfo;
  readonly servers?: Readonly<Record<string, AsyncApiServer>>;
  readonly defaultContentType: string;
  readonly channels: Readonly<Record<string, JsonObject>>;
  readonly operations: Readonly<Record<string, JsonObject>>;
  readonly components: Readonly<Record<string, JsonObject>>;
}

/** An object of the entries, sorted by name. */
export function sorted<Value>(entries: Iterable<readonly [name: string, value: Value]>): Record<string, Value> {
  return Object.fromEntries([...entries].sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0)));
}

/** The object without undefined values. */
export function given(entries: Readonly<Record<string, JsonValue | undefined>>): JsonObject {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as JsonObject;
}
