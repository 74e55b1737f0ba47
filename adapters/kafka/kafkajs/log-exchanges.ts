import type {
  FetchedPartition,
  FetchRequest,
  ListedOffset,
  PartitionBatch,
  PartitionOffset,
  PartitionOutcome,
  ProduceOutcome,
  ProducerIdentity,
  WantedOffset,
} from "../port.ts";
import {
  type Exchange,
  inOrder,
  readBuffer,
  readByTopic,
  readInteger,
  skipThrottleTime,
  writeByTopic,
  writeInteger,
} from "./exchange.ts";
import { errorName } from "./protocol-error.ts";

const ALL_REPLICAS = -1;
const NO_REPLICA = -1;
const READ_UNCOMMITTED = 0;
const READ_COMMITTED = 1;
const NO_LEADER_EPOCH = -1;
/** Room for names and numbers around a batch. */
const FRAME_BYTES = 300;

export function producerIdentity(): Exchange<ProducerIdentity> {
  return {
    name: "InitProducerId",
    key: 22,
    version: 1,
    write: (to) => {
      const withoutTransactions = null;
      to.writeString(withoutTransactions).writeInt32(0);
    },
    read: (from) => {
      skipThrottleTime(from);
      return { error: errorName(from.readInt16()), producerId: from.readInt64(), epoch: from.readInt16() };
    },
  };
}

export function produce(batches: readonly PartitionBatch[], timeoutMs: number): Exchange<readonly ProduceOutcome[]> {
  return {
    name: "Produce",
    key: 0,
    version: 7,
    waitMs: timeoutMs,
    size: batches.reduce((size, { batch }) => size + batch.byteLength + FRAME_BYTES, FRAME_BYTES),
    write: (to) => {
      const withoutTransactions = null;
      to.writeString(withoutTransactions).writeInt16(ALL_REPLICAS).writeInt32(timeoutMs);
      writeByTopic(to, batches, ({ batch }) => {
        // kafkajs would write another kind of array as its text.
        to.writeBytes(Buffer.from(batch.buffer, batch.byteOffset, batch.byteLength));
      });
    },
    read: (from) => {
      const outcomes = readByTopic(from, (topic, partition) => {
        const outcome = { topic, partition, error: errorName(from.readInt16()), baseOffset: readInteger(from) };
        readInteger(from); // when it was appended
        readInteger(from); // where the log starts
        return outcome;
      });
      return inOrder(batches, outcomes);
    },
  };
}

export function fetch(request: FetchRequest): Exchange<readonly FetchedPartition[]> {
  return {
    name: "Fetch",
    key: 1,
    version: 11,
    lane: "fetch",
    waitMs: request.maxWaitMs,
    write: (to) => {
      const [noSession, noEpoch, nothingForgotten, noRack] = [0, -1, 0, ""];
      to.writeInt32(NO_REPLICA).writeInt32(request.maxWaitMs).writeInt32(request.minBytes).writeInt32(request.maxBytes);
      to.writeInt8(READ_COMMITTED).writeInt32(noSession).writeInt32(noEpoch);
      writeByTopic(to, request.partitions, ({ offset, maxBytes }) => {
        to.writeInt32(NO_LEADER_EPOCH);
        writeInteger(to, offset);
        const asFollower = -1;
        writeInteger(to, asFollower);
        to.writeInt32(maxBytes);
      });
      to.writeInt32(nothingForgotten).writeString(noRack);
    },
    read: (from) => {
      skipThrottleTime(from);
      const error = errorName(from.readInt16());
      from.readInt32(); // the session
      if (error !== undefined) return request.partitions.map((wanted) => unfetched(wanted, error));
      const outcomes = readByTopic(from, (topic, partition) => {
        const fetched = {
          topic,
          partition,
          error: errorName(from.readInt16()),
          highWatermark: readInteger(from),
          lastStableOffset: readInteger(from),
          logStartOffset: readInteger(from),
          abortedTransactions: from.readArray(() => ({
            producerId: from.readInt64(),
            firstOffset: readInteger(from),
          })),
        };
        from.readInt32(); // the replica to read from, for those that name their rack
        return { ...fetched, records: readBuffer(from) };
      });
      return inOrder(request.partitions, outcomes);
    },
  };
}

function unfetched({ topic, partition }: PartitionOffset, error: string): FetchedPartition {
  const [highWatermark, lastStableOffset, logStartOffset] = [-1, -1, -1];
  const nothing = { abortedTransactions: [], records: Buffer.alloc(0) };
  return { topic, partition, error, highWatermark, lastStableOffset, logStartOffset, ...nothing };
}

export function listOffsets(wanted: readonly WantedOffset[]): Exchange<readonly ListedOffset[]> {
  return {
    name: "ListOffsets",
    key: 2,
    version: 3,
    write: (to) => {
      to.writeInt32(NO_REPLICA).writeInt8(READ_UNCOMMITTED);
      writeByTopic(to, wanted, ({ at }) => writeInteger(to, at === "latest" ? -1 : at === "earliest" ? -2 : at));
    },
    read: (from) => {
      skipThrottleTime(from);
      const outcomes = readByTopic(from, (topic, partition) => {
        const error = errorName(from.readInt16());
        readInteger(from); // the time of the record found
        return { topic, partition, error, offset: readInteger(from) };
      });
      return inOrder(wanted, outcomes);
    },
  };
}

export function deleteRecords(
  before: readonly PartitionOffset[],
  waitMs: number,
): Exchange<readonly PartitionOutcome[]> {
  return {
    name: "DeleteRecords",
    key: 21,
    version: 1,
    waitMs,
    write: (to) => {
      writeByTopic(to, before, ({ offset }) => writeInteger(to, offset));
      to.writeInt32(waitMs);
    },
    read: (from) => {
      skipThrottleTime(from);
      const outcomes = readByTopic(from, (topic, partition) => {
        readInteger(from); // where the log starts now
        return { topic, partition, error: errorName(from.readInt16()) };
      });
      return inOrder(before, outcomes);
    },
  };
}
