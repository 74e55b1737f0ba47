import { ROUTING_KEY } from "../../adapters/sqs/message-codec.ts";
import { FIFO, physicalName } from "../../adapters/sqs/names.ts";
import { filterPolicy } from "../../adapters/sqs/topology/topics.ts";
import { checkInteger, checkOptions } from "../../core/checks.ts";
import { type Address, MessagingError, type SubscriptionDeclaration, type WorkAddress } from "../../core/index.ts";
import { type BrokerBindings, bareName, type DescribedDestination, type PhysicalName } from "./broker-bindings.ts";
import { given, type JsonObject, type JsonValue } from "./document.ts";

const SQS_VERSION = { bindingVersion: "0.2.0" };
const SNS_VERSION = { bindingVersion: "0.1.0" };

/** The options of {@link sqsBindings}. */
export interface SqsBindingsOptions {
  /** As in `sqs({ namePrefix })`. Default: nothing. */
  readonly namePrefix?: string;
  /** As in `sqs({ maxReceives })`. Default: not said. */
  readonly maxReceives?: number;
}

/**
 * SQS and SNS, with the names of queues and topics that `anybroker/sqs` uses. Its clients are not needed. Throws `invalid`
 * for wrong options.
 */
export function sqsBindings(options: SqsBindingsOptions = {}): BrokerBindings {
  checkOptions("sqsBindings", options, ["namePrefix", "maxReceives"]);
  const { namePrefix = "", maxReceives } = options;
  if (typeof namePrefix !== "string") throw new MessagingError("invalid", "sqsBindings takes a text as namePrefix");
  if (maxReceives !== undefined) checkInteger("sqsBindings { maxReceives }", maxReceives, 1, 1_000);
  return sqsBindingsUnder((address) => physicalName(address, namePrefix), maxReceives);
}

/** SQS and SNS under the names that an adapter gives. */
export function sqsBindingsUnder(physicalName: PhysicalName, maxReceives?: number): BrokerBindings {
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
            "A JSON object with the message's id, its key, the content type if it is not JSON, how the body is written if it is not text, and as `headers` the engine's own headers and those that had no room beside this one.",
        },
        [ROUTING_KEY]: { type: "string", description: "What subscriptions filter by, if the event has one." },
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
      // AsyncAPI wants a consumer at least.
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
  // AsyncAPI's schema of the binding knows texts alone, and a filter up to a wildcard is a prefix.
  const plain = Object.values(policy).every((values) => values.every((value) => typeof value === "string"));
  return given({
    protocol: "sqs",
    endpoint: { name: queue },
    rawMessageDelivery: true,
    [plain ? "filterPolicy" : "x-filterPolicy"]: text === undefined ? undefined : policy,
  });
}
