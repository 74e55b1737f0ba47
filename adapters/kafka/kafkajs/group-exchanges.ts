import type Encoder from "kafkajs/src/protocol/encoder.js";
import type {
  CommittedOffset,
  ErrorName,
  GroupDescription,
  GroupOffsets,
  JoinOutcome,
  JoinRequest,
  ListedGroup,
  Membership,
  OffsetCommit,
  PartitionOutcome,
  SyncRequest,
  TopicPartition,
} from "../port.ts";
import {
  type AnswerReader,
  type Exchange,
  errorName,
  inOrder,
  readBuffer,
  readByTopic,
  readCommitted,
  readCompactArray,
  readCompactText,
  readText,
  readThrottleTime,
  readTopicId,
  skipTags,
  writeByTopic,
  writeCompactArray,
  writeCompactByTopic,
  writeInteger,
  writeTags,
} from "./exchange.ts";

/** The protocol type of consumers. */
const CONSUMERS = "consumer";
const GROUP = 0;

export interface Coordinator {
  readonly error: ErrorName;
  readonly node: number;
  readonly host: string;
  readonly port: number;
}

export function coordinator(group: string): Exchange<Coordinator> {
  return {
    name: "FindCoordinator",
    key: 10,
    version: 2,
    write: (to) => void to.writeString(group).writeInt8(GROUP),
    read: (from) => {
      readThrottleTime(from);
      const error = errorName(from.readInt16());
      from.readString(); // error message
      return { error, node: from.readInt32(), host: readText(from), port: from.readInt32() };
    },
  };
}

export function joinGroup(request: JoinRequest): Exchange<JoinOutcome> {
  return {
    name: "JoinGroup",
    key: 11,
    // Before version 4 a member's first id could get lost with the answer and hold up the group.
    version: 4,
    waitMs: request.rebalanceTimeoutMs,
    write: (to) => {
      to.writeString(request.group).writeInt32(request.sessionTimeoutMs).writeInt32(request.rebalanceTimeoutMs);
      to.writeString(request.memberId).writeString(CONSUMERS);
      to.writeInt32(1).writeString(request.protocol).writeBytes(request.metadata);
    },
    read: (from) => {
      readThrottleTime(from);
      const [error, generation] = [errorName(from.readInt16()), from.readInt32()];
      from.readString(); // the chosen protocol, out of one
      return {
        error,
        generation,
        leader: readText(from),
        memberId: readText(from),
        members: from.readArray(() => ({ memberId: readText(from), metadata: readBuffer(from) })),
      };
    },
  };
}

/** `waitMs`: how long the leader may take. */
export function syncGroup(
  request: SyncRequest,
  waitMs: number,
): Exchange<{ readonly error: ErrorName; readonly assignment: Buffer }> {
  return {
    name: "SyncGroup",
    key: 14,
    version: 2,
    waitMs,
    write: (to) => {
      to.writeString(request.group).writeInt32(request.generation).writeString(request.memberId);
      to.writeInt32(request.assignments.length);
      for (const { memberId, assignment } of request.assignments) to.writeString(memberId).writeBytes(assignment);
    },
    read: (from) => {
      readThrottleTime(from);
      return { error: errorName(from.readInt16()), assignment: readBuffer(from) };
    },
  };
}

export function heartbeat({ group, generation, memberId }: Membership): Exchange<ErrorName> {
  return {
    name: "Heartbeat",
    key: 12,
    version: 2,
    write: (to) => void to.writeString(group).writeInt32(generation).writeString(memberId),
    read: (from) => {
      readThrottleTime(from);
      return errorName(from.readInt16());
    },
  };
}

export function leaveGroup({ group, memberId }: Pick<Membership, "group" | "memberId">): Exchange<ErrorName> {
  return {
    name: "LeaveGroup",
    key: 13,
    version: 2,
    write: (to) => void to.writeString(group).writeString(memberId),
    read: (from) => {
      readThrottleTime(from);
      return errorName(from.readInt16());
    },
  };
}

export function commitOffsets(commit: OffsetCommit): Exchange<readonly PartitionOutcome[]> {
  return {
    name: "OffsetCommit",
    // Answered after replication.
    load: 256,
    key: 8,
    version: 5,
    write: (to) => {
      to.writeString(commit.group).writeInt32(commit.generation).writeString(commit.memberId);
      writeByTopic(to, commit.offsets, ({ offset, metadata }) => {
        writeInteger(to, offset);
        to.writeString(metadata);
      });
    },
    read: (from) => {
      readThrottleTime(from);
      const outcome = (topic: string, partition: number) => ({ topic, partition, error: errorName(from.readInt16()) });
      return inOrder(commit.offsets, readByTopic(from, outcome));
    },
  };
}

export function fetchOffsets(
  group: string,
  partitions: readonly TopicPartition[],
): Exchange<{ readonly error: ErrorName; readonly offsets: readonly CommittedOffset[] }> {
  return {
    name: "OffsetFetch",
    key: 9,
    version: 4,
    write: (to) => {
      to.writeString(group);
      writeByTopic(to, partitions, () => undefined);
    },
    read: (from) => {
      readThrottleTime(from);
      const offsets = readByTopic(from, (topic, partition) => ({
        topic,
        partition,
        offset: readCommitted(from),
        metadata: readText(from),
        error: errorName(from.readInt16()),
      }));
      const error = errorName(from.readInt16());
      return { error, offsets: error === undefined ? inOrder(partitions, offsets) : [] };
    },
  };
}

/* Requests about groups by non-members. */

/** Describes a group of the classic protocol. A group of another protocol looks like a missing one: `Dead`. */
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
        from.readString(); // group
        const state = readText(from);
        const [protocolType, assignor] = [readText(from), readText(from)];
        const clients = from.readArray(() => {
          from.readString(); // member
          const client = readText(from);
          from.readString(); // host
          from.readBytes(); // metadata
          from.readBytes(); // assignment
          return client;
        });
        return description(error, state, "classic", protocolType, assignor, clients);
      });
      if (described === undefined) throw new RangeError("no group was described");
      return described;
    },
  };
}

/** Describes a group of the KIP-848 protocol. */
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
        readCompactText(from); // error message
        readCompactText(from); // group
        const state = readCompactText(from);
        from.readInt32(); // epoch
        from.readInt32(); // assignment epoch
        const assignor = readCompactText(from);
        const clients = readCompactArray(from, () => {
          readCompactText(from); // member
          readCompactText(from); // instance
          readCompactText(from); // rack
          from.readInt32(); // epoch
          const client = readCompactText(from);
          readCompactText(from); // host
          readCompactArray(from, () => readCompactText(from)); // topics
          readCompactText(from); // topic pattern
          skipAssignment(from);
          skipAssignment(from); // target assignment
          skipTags(from);
          return client;
        });
        from.readInt32(); // authorized operations
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
    readCompactText(from); // name
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

/** The groups that a node coordinates and this user may see. */
export function listGroups(): Exchange<{ readonly error: ErrorName; readonly groups: readonly ListedGroup[] }> {
  return {
    name: "ListGroups",
    key: 16,
    version: 4,
    flexible: true,
    write: (to) => {
      writeCompactArray(to, [], () => undefined); // any state
      writeTags(to);
    },
    read: (from) => {
      readThrottleTime(from);
      const error = errorName(from.readInt16());
      const groups = readCompactArray(from, () => {
        const listed = { group: readCompactText(from), protocolType: readCompactText(from) };
        readCompactText(from); // state
        skipTags(from);
        return listed;
      });
      return { error, groups };
    },
  };
}

/** As {@link fetchOffsets}, for several groups. */
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
          from.readInt32(); // leader epoch
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

/** Requires Kafka 4.1. */
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
        readCompactText(from); // group
        const offsets = readCompactArray(from, () => {
          const topic = readCompactText(from);
          readTopicId(from);
          const some = readCompactArray(from, () => {
            const [partition, offset] = [from.readInt32(), readCommitted(from)];
            from.readInt32(); // leader epoch
            const error = errorName(from.readInt16());
            readCompactText(from); // error message
            skipTags(from);
            return { topic, partition, offset, metadata: "", error };
          });
          skipTags(from);
          return some;
        }).flat();
        const error = errorName(from.readInt16());
        readCompactText(from); // error message
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
