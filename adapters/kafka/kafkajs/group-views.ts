import type Encoder from "kafkajs/src/protocol/encoder.js";
import type { ErrorName, GroupDescription, GroupOffsets, ListedGroup, TopicPartition } from "../port.ts";
import type { AnswerReader } from "./answer-reader.ts";
import { type Exchange, readCommitted, readText, readThrottleTime } from "./exchange.ts";
import {
  readCompactArray,
  readCompactText,
  readTopicId,
  skipTags,
  writeCompactArray,
  writeCompactByTopic,
  writeTags,
} from "./flexible.ts";
import { CONSUMERS } from "./group-exchanges.ts";
import { errorName } from "./protocol-error.ts";

/* What is asked about groups by those who are not in them. */

/** Groups of the classic protocol. Of one of another protocol it says what it says of none: `Dead`. */
export function describeClassicGroup(group: string): Exchange<GroupDescription> {
  return {
    name: "DescribeGroups",
    key: 15,
    version: 2,
    write: (to) => void to.writeInt32(1).writeString(group),
    read: (from) => {
      readThrottleTime(from);
      const [described] = from.readArray(() => {
        const error = errorName(from.readInt16());
        from.readString(); // the group
        const state = readText(from);
        const [protocolType, assignor] = [readText(from), readText(from)];
        const clients = from.readArray(() => {
          from.readString(); // the member
          const client = readText(from);
          from.readString(); // where it runs
          from.readBytes(); // its metadata
          from.readBytes(); // its assignment
          return client;
        });
        return description(error, state, "classic", protocolType, assignor, clients);
      });
      if (described === undefined) throw new RangeError("no group was described");
      return described;
    },
  };
}

/** Groups of the protocol of KIP-848. */
export function describeConsumerGroup(group: string): Exchange<GroupDescription> {
  return {
    name: "ConsumerGroupDescribe",
    key: 69,
    version: 0,
    flexible: true,
    write: (to) => {
      writeCompactArray(to, [group], (one) => void to.writeUVarIntString(one));
      const withRights = false;
      to.writeBoolean(withRights);
      writeTags(to);
    },
    read: (from) => {
      readThrottleTime(from);
      const [described] = readCompactArray(from, () => {
        const error = errorName(from.readInt16());
        readCompactText(from); // the server's words for it
        readCompactText(from); // the group
        const state = readCompactText(from);
        from.readInt32(); // its epoch
        from.readInt32(); // that of its assignment
        const assignor = readCompactText(from);
        const clients = readCompactArray(from, () => {
          readCompactText(from); // the member
          readCompactText(from); // its instance
          readCompactText(from); // its rack
          from.readInt32(); // its epoch
          const client = readCompactText(from);
          readCompactText(from); // where it runs
          readCompactArray(from, () => readCompactText(from)); // its topics
          readCompactText(from); // their pattern
          skipAssignment(from);
          skipAssignment(from); // what it is to have in the end
          skipTags(from);
          return client;
        });
        from.readInt32(); // what this user may do to it
        skipTags(from);
        return description(error, state, "consumer", CONSUMERS, assignor, clients);
      });
      if (described === undefined) throw new RangeError("no group was described");
      return described;
    },
  };
}

function skipAssignment(from: AnswerReader): void {
  readCompactArray(from, () => {
    readTopicId(from);
    readCompactText(from); // its name
    readCompactArray(from, () => from.readInt32()); // partitions
    skipTags(from);
  });
  skipTags(from);
}

function description(
  error: ErrorName,
  state: string,
  protocol: GroupDescription["protocol"],
  protocolType: string,
  assignor: string,
  clients: readonly string[],
): GroupDescription {
  return { error, state, protocol, protocolType, assignor, members: clients.length, clients: [...new Set(clients)] };
}

/** The groups that a node coordinates; without those that this user may not see. */
export function listGroups(): Exchange<{ readonly error: ErrorName; readonly groups: readonly ListedGroup[] }> {
  return {
    name: "ListGroups",
    key: 16,
    version: 4,
    flexible: true,
    write: (to) => {
      writeCompactArray(to, [], () => undefined); // in whatever state
      writeTags(to);
    },
    read: (from) => {
      readThrottleTime(from);
      const error = errorName(from.readInt16());
      const groups = readCompactArray(from, () => {
        const listed = { group: readCompactText(from), protocolType: readCompactText(from) };
        readCompactText(from); // its state
        skipTags(from);
        return listed;
      });
      return { error, groups };
    },
  };
}

/** As {@link fetchOffsets}, of several groups at once. */
export function fetchGroupsOffsets(
  groups: readonly string[],
  partitions: readonly TopicPartition[],
): Exchange<readonly GroupOffsets[]> {
  return {
    name: "OffsetFetch",
    key: 9,
    version: 8,
    flexible: true,
    write: (to) => {
      writeCompactArray(to, groups, (group) => {
        to.writeUVarIntString(group);
        writePartitionNumbers(to, partitions);
        writeTags(to);
      });
      const onlyWhatIsStable = false;
      to.writeBoolean(onlyWhatIsStable);
      writeTags(to);
    },
    read: (from) => {
      readThrottleTime(from);
      return readCompactArray(from, () => {
        const group = readCompactText(from);
        const offsets = readCompactByName(from, (topic) => {
          const [partition, offset] = [from.readInt32(), readCommitted(from)];
          from.readInt32(); // the epoch of its leader
          const committed = { topic, partition, offset, metadata: readCompactText(from) };
          const error = errorName(from.readInt16());
          skipTags(from);
          return { ...committed, error };
        });
        const error = errorName(from.readInt16());
        skipTags(from);
        return { group, error, offsets };
      });
    },
  };
}

/** Only servers from Kafka 4.1 on speak it. */
export function fetchShareGroupOffsets(group: string, partitions: readonly TopicPartition[]): Exchange<GroupOffsets> {
  return {
    name: "DescribeShareGroupOffsets",
    key: 90,
    version: 0,
    flexible: true,
    write: (to) => {
      writeCompactArray(to, [group], (one) => {
        to.writeUVarIntString(one);
        writePartitionNumbers(to, partitions);
        writeTags(to);
      });
      writeTags(to);
    },
    read: (from) => {
      readThrottleTime(from);
      const [found] = readCompactArray(from, () => {
        readCompactText(from); // the group
        const offsets = readCompactArray(from, () => {
          const topic = readCompactText(from);
          readTopicId(from);
          const some = readCompactArray(from, () => {
            const [partition, offset] = [from.readInt32(), readCommitted(from)];
            from.readInt32(); // the epoch of its leader
            const error = errorName(from.readInt16());
            readCompactText(from); // the server's words for it
            skipTags(from);
            return { topic, partition, offset, metadata: "", error };
          });
          skipTags(from);
          return some;
        }).flat();
        const error = errorName(from.readInt16());
        readCompactText(from); // the server's words for it
        skipTags(from);
        return { group, error, offsets };
      });
      if (found === undefined) throw new RangeError(`nothing is said of the share group ${group}`);
      return found;
    },
  };
}

function writePartitionNumbers(to: Encoder, partitions: readonly TopicPartition[]): void {
  writeCompactByTopic(
    to,
    partitions,
    ({ topic }) => topic,
    (topic) => void to.writeUVarIntString(topic),
    ({ partition }) => void to.writeInt32(partition),
  );
}

function readCompactByName<Item>(from: AnswerReader, read: (topic: string) => Item): readonly Item[] {
  return readCompactArray(from, () => {
    const topic = readCompactText(from);
    const items = readCompactArray(from, () => read(topic));
    skipTags(from);
    return items;
  }).flat();
}
