import { WIRE_HEADER } from "../../adapters/kafka/message.ts";
import { physicalName } from "../../adapters/kafka/names.ts";
import { checkInteger, checkOptions } from "../../core/checks.ts";
import type { Address } from "../../core/index.ts";
import { type BrokerBindings, bareName, type DescribedDestination, type PhysicalName } from "./broker-bindings.ts";
import { given } from "./document.ts";

const VERSION = { bindingVersion: "0.5.0" };

/** The options of {@link kafkaBindings}: what the topics are made with, where the document is to say it. */
export interface KafkaBindingsOptions {
  /** As in `kafka({ partitions })`. Default: not said. */
  readonly partitions?: number;
  /** As in `kafka({ replicationFactor })`. Default: not said. */
  readonly replicationFactor?: number;
}

/**
 * Kafka, with the names of topics and groups that `anybroker/kafka` uses. Its client is not needed. Throws `invalid` for
 * wrong options.
 */
export function kafkaBindings(options: KafkaBindingsOptions = {}): BrokerBindings {
  checkOptions("kafkaBindings", options, ["partitions", "replicationFactor"]);
  const { partitions, replicationFactor } = options;
  if (partitions !== undefined) checkInteger("kafkaBindings { partitions }", partitions, 1);
  if (replicationFactor !== undefined) checkInteger("kafkaBindings { replicationFactor }", replicationFactor, 1);
  return kafkaBindingsUnder(physicalName, options);
}

/** Kafka under the names that an adapter gives. */
export function kafkaBindingsUnder(
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
        [WIRE_HEADER.routingKey]: { type: "string", description: "What subscriptions filter by, if it has one." },
      },
      required: [WIRE_HEADER.contentType, WIRE_HEADER.id],
      idLocation: `$message.header#/${WIRE_HEADER.id}`,
      bindings: {
        kafka: {
          key: { type: "string", description: "What order is kept by; none for a message without a key." },
          ...VERSION,
        },
      },
    },
    channel(of) {
      const topic = nameOf(read(of));
      return {
        address: topic,
        bindings: { kafka: given({ topic, partitions, replicas: replicationFactor, ...VERSION }) },
      };
    },
    operation(action, { address }) {
      if (action === "send") return undefined;
      return { kafka: { groupId: { type: "string", enum: [nameOf(address)] }, ...VERSION } };
    },
  };
}
