import type { ApiVersions } from "kafkajs/src/network/connection.js";
import type { ErrorName, TopicConfiguration, TopicMetadata, TopicOutcome, TopicSpecification } from "../port.ts";
import { type Exchange, readText, skipThrottleTime } from "./exchange.ts";
import { errorName } from "./protocol-error.ts";

const TOPIC = 2;

/** Which versions of which requests a server speaks. */
export function apiVersions(): Exchange<{ readonly error: ErrorName; readonly versions: ApiVersions }> {
  return {
    name: "ApiVersions",
    key: 18,
    version: 2,
    write: () => undefined,
    read: (from) => {
      const error = errorName(from.readInt16());
      const ranges = from.readArray(
        () => [from.readInt16(), { minVersion: from.readInt16(), maxVersion: from.readInt16() }] as const,
      );
      return { error, versions: Object.fromEntries(ranges) };
    },
  };
}

export interface Cluster {
  readonly brokers: readonly { readonly node: number; readonly host: string; readonly port: number }[];
  /** -1 while there is none. */
  readonly controller: number;
  readonly topics: readonly TopicMetadata[];
}

export function metadata(topics: readonly string[]): Exchange<Cluster> {
  return {
    name: "Metadata",
    key: 3,
    version: 6,
    write: (to) => {
      // Not kafkajs' own encoder: it asks for every topic if given none.
      to.writeInt32(topics.length);
      for (const topic of topics) to.writeString(topic);
      const createWhatIsMissing = false;
      to.writeBoolean(createWhatIsMissing);
    },
    read: (from) => {
      skipThrottleTime(from);
      const brokers = from.readArray(() => {
        const broker = { node: from.readInt32(), host: readText(from), port: from.readInt32() };
        from.readString(); // its rack
        return broker;
      });
      from.readString(); // the cluster
      return { brokers, controller: from.readInt32(), topics: from.readArray(() => readTopic(from)) };
    },
  };
}

function readTopic(from: Parameters<Exchange<unknown>["read"]>[0]): TopicMetadata {
  const [error, topic] = [errorName(from.readInt16()), readText(from)];
  from.readBoolean(); // whether it is Kafka's own
  const nodes = (): number[] => from.readArray(() => from.readInt32());
  const partitions = from.readArray(() => {
    const led = { error: errorName(from.readInt16()), partition: from.readInt32(), leader: from.readInt32() };
    const replicas = nodes().length;
    nodes(); // those in sync
    nodes(); // those off line
    return { ...led, replicas };
  });
  return { topic, error, partitions };
}

export function createTopics(topics: readonly TopicSpecification[], waitMs: number): Exchange<readonly TopicOutcome[]> {
  return {
    name: "CreateTopics",
    key: 19,
    version: 3,
    waitMs,
    write: (to) => {
      to.writeInt32(topics.length);
      for (const { topic, partitions, replicationFactor, configuration } of topics) {
        const [values, placedByHand] = [Object.entries(configuration), 0];
        to.writeString(topic).writeInt32(partitions).writeInt16(replicationFactor).writeInt32(placedByHand);
        to.writeInt32(values.length);
        for (const [name, value] of values) to.writeString(name).writeString(value);
      }
      const onlyToTry = false;
      to.writeInt32(waitMs).writeBoolean(onlyToTry);
    },
    read: (from) => {
      skipThrottleTime(from);
      return from.readArray(() => ({
        topic: readText(from),
        error: errorName(from.readInt16()),
        message: from.readString() ?? undefined,
      }));
    },
  };
}

export function topicConfigurations(
  topics: readonly string[],
  names: readonly string[],
): Exchange<readonly TopicConfiguration[]> {
  return {
    name: "DescribeConfigs",
    key: 32,
    version: 2,
    write: (to) => {
      to.writeInt32(topics.length);
      for (const topic of topics) {
        to.writeInt8(TOPIC).writeString(topic).writeInt32(names.length);
        for (const name of names) to.writeString(name);
      }
      const withSynonyms = false;
      to.writeBoolean(withSynonyms);
    },
    read: (from) => {
      skipThrottleTime(from);
      return from.readArray(() => {
        const error = errorName(from.readInt16());
        from.readString(); // the server's words for it
        from.readInt8(); // the kind of resource
        const topic = readText(from);
        const entries = from.readArray(() => {
          const entry = [readText(from), from.readString()] as const;
          from.readBoolean(); // whether it can be changed
          from.readInt8(); // where it was set
          from.readBoolean(); // whether it is a secret; those have no value
          from.readArray(() => [from.readString(), from.readString(), from.readInt8()]); // synonyms
          return entry;
        });
        const values = entries.flatMap(([name, value]) => (value === null ? [] : [[name, value] as const]));
        return { topic, error, values: new Map(values) };
      });
    },
  };
}
