import type {
  CommittedOffset,
  ErrorName,
  JoinOutcome,
  JoinRequest,
  Membership,
  OffsetCommit,
  PartitionOutcome,
  SyncRequest,
  TopicPartition,
} from "../port.ts";
import {
  type Exchange,
  inOrder,
  readBuffer,
  readByTopic,
  readCommitted,
  readText,
  readThrottleTime,
  writeByTopic,
  writeInteger,
} from "./exchange.ts";
import { errorName } from "./protocol-error.ts";

/** The kind of group that Kafka's own tools show as consumers. */
export const CONSUMERS = "consumer";
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
      from.readString(); // the server's words for it
      return { error, node: from.readInt32(), host: readText(from), port: from.readInt32() };
    },
  };
}

export function joinGroup(request: JoinRequest): Exchange<JoinOutcome> {
  return {
    name: "JoinGroup",
    key: 11,
    // Before version 4 a member's first id could be lost with the answer, and would hold up the group.
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
      from.readString(); // the protocol chosen, of one
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

/** `waitMs`: for how long the leader may think. */
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
    // It is answered when it is written and copied.
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
