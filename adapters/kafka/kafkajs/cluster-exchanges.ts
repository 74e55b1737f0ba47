import type { ApiVersions } from "kafkajs/src/network/connection.js";
import type {
  ClusterRight,
  ErrorName,
  TopicConfiguration,
  TopicMetadata,
  TopicOutcome,
  TopicSpecification,
} from "../port.ts";
import {
  type Exchange,
  errorName,
  readCompactArray,
  readCompactText,
  readText,
  readThrottleTime,
  readTopicId,
  skipTags,
  writeCompactArray,
  writeTags,
  writeTopicId,
} from "./exchange.ts";

const TOPIC = 2;
/** For requests by topic name. */
const NO_ID = Buffer.alloc(16).toString("base64url");
/** The length of a null array. */
const NULL_ARRAY = 0;
/** More than any cluster has: a hostile number must not fill memory. */
const MAX_PARTITION = 1_000_000;
/** The number of the right to describe. */
const DESCRIBE = 8;

/** The request versions that a server supports. */
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
  readonly clusterId: string;
  readonly brokers: readonly { readonly node: number; readonly host: string; readonly port: number }[];
  /** -1 while there is none. */
  readonly controller: number;
  readonly topics: readonly TopicMetadata[];
}

/** Of these topics, or of all. */
export function metadata(topics: readonly string[] | "all"): Exchange<Cluster> {
  return {
    name: "Metadata",
    key: 3,
    // The first version with topic ids.
    version: 10,
    flexible: true,
    write: (to) => {
      const [createWhatIsMissing, withRights] = [false, false];
      if (topics === "all") to.writeUVarInt(NULL_ARRAY);
      else {
        writeCompactArray(to, topics, (topic) => {
          writeTopicId(to, NO_ID);
          to.writeUVarIntString(topic);
          writeTags(to);
        });
      }
      to.writeBoolean(createWhatIsMissing).writeBoolean(withRights).writeBoolean(withRights);
      writeTags(to);
    },
    read: (from) => {
      readThrottleTime(from);
      const brokers = readCompactArray(from, () => {
        const broker = { node: from.readInt32(), host: readCompactText(from), port: from.readInt32() };
        readCompactText(from); // rack
        skipTags(from);
        return broker;
      });
      const clusterId = readCompactText(from);
      const controller = from.readInt32();
      return { clusterId, brokers, controller, topics: readCompactArray(from, () => readTopic(from)) };
    },
  };
}

function readTopic(from: Parameters<Exchange<unknown>["read"]>[0]): TopicMetadata {
  const [error, topic, id] = [errorName(from.readInt16()), readCompactText(from), readTopicId(from)];
  from.readBoolean(); // whether it is internal
  const nodes = (): number[] => readCompactArray(from, () => from.readInt32());
  const partitions = readCompactArray(from, () => {
    const led = { error: errorName(from.readInt16()), partition: from.readInt32(), leader: from.readInt32() };
    from.readInt32(); // leader epoch
    const replicas = nodes().length;
    nodes(); // in-sync replicas
    nodes(); // offline replicas
    skipTags(from);
    if (led.partition < 0 || led.partition > MAX_PARTITION) throw new RangeError(`no partition ${led.partition}`);
    return { ...led, replicas };
  });
  from.readInt32(); // authorized operations
  skipTags(from);
  return { topic, id, error, partitions };
}

/** What this user may do to the cluster. */
export function clusterRights(): Exchange<ReadonlySet<ClusterRight>> {
  return {
    name: "DescribeCluster",
    key: 60,
    version: 0,
    flexible: true,
    write: (to) => {
      const withRights = true;
      to.writeBoolean(withRights);
      writeTags(to);
    },
    read: (from) => {
      readThrottleTime(from);
      const error = errorName(from.readInt16());
      readCompactText(from); // error message
      readCompactText(from); // cluster id
      from.readInt32(); // controller
      readCompactArray(from, () => {
        from.readInt32(); // broker id
        readCompactText(from); // host and port
        from.readInt32();
        readCompactText(from); // rack
        skipTags(from);
      });
      const bits = error === undefined ? from.readInt32() : 0;
      return new Set<ClusterRight>((bits & (1 << DESCRIBE)) === 0 ? [] : ["describe"]);
    },
  };
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
      readThrottleTime(from);
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
      readThrottleTime(from);
      return from.readArray(() => {
        const error = errorName(from.readInt16());
        from.readString(); // error message
        from.readInt8(); // resource type
        const topic = readText(from);
        const entries = from.readArray(() => {
          const entry = [readText(from), from.readString()] as const;
          from.readBoolean(); // whether it is read-only
          from.readInt8(); // source
          from.readBoolean(); // whether it is sensitive; then it has no value
          from.readArray(() => [from.readString(), from.readString(), from.readInt8()]); // synonyms
          return entry;
        });
        const values = entries.flatMap(([name, value]) => (value === null ? [] : [[name, value] as const]));
        return { topic, error, values: new Map(values) };
      });
    },
  };
}
