import type {
  FetchedPartition,
  FetchRequest,
  ListedOffset,
  PartitionBatch,
  PartitionOffset,
  PartitionOutcome,
  ProduceOutcome,
  ProducerIdentity,
  TopicId,
  WantedOffset,
} from "../port.ts";
import type { AnswerReader } from "./answer-reader.ts";
import {
  type Exchange,
  inOrder,
  readByTopic,
  readInteger,
  skipThrottleTime,
  writeByTopic,
  writeInteger,
} from "./exchange.ts";
import {
  readCompactArray,
  readCompactBytes,
  readCompactText,
  readTopicId,
  skipTags,
  writeCompactArray,
  writeCompactByTopic,
  writeTags,
  writeTopicId,
} from "./flexible.ts";
import { errorName } from "./protocol-error.ts";

const ALL_REPLICAS = -1;
const NO_REPLICA = -1;
const READ_UNCOMMITTED = 0;
const READ_COMMITTED = 1;
const NO_EPOCH = -1;
const WITHOUT_TRANSACTIONS = null;
/** Room for names and numbers around a batch. */
const FRAME_BYTES = 300;

export function producerIdentity(): Exchange<ProducerIdentity> {
  return {
    name: "InitProducerId",
    key: 22,
    version: 1,
    write: (to) => {
      to.writeString(WITHOUT_TRANSACTIONS).writeInt32(0);
    },
    read: (from) => {
      skipThrottleTime(from);
      return { error: errorName(from.readInt16()), producerId: from.readInt64(), epoch: from.readInt16() };
    },
  };
}

export function produce(batches: readonly PartitionBatch[], timeoutMs: number): Exchange<readonly ProduceOutcome[]> {
  const isNamedById = batches.every(({ topicId }) => topicId !== "");
  return {
    ...produceShape(batches, timeoutMs),
    version: 7,
    // From Kafka 4.1 on nothing gets into the log of a topic that is just being replaced.
    ...(isNamedById ? { later: produceById(batches, timeoutMs) } : {}),
    write: (to) => {
      to.writeString(WITHOUT_TRANSACTIONS).writeInt16(ALL_REPLICAS).writeInt32(timeoutMs);
      writeByTopic(to, batches, ({ batch }) => void to.writeBytes(bufferOf(batch)));
    },
    read: (from) => {
      const outcomes = readByTopic(from, (topic, partition) => {
        const outcome = { topic, partition, error: errorName(from.readInt16()), baseOffset: readInteger(from) };
        from.readInt64(); // when it was appended
        readInteger(from); // where the log starts
        return outcome;
      });
      return inOrder(batches, outcomes);
    },
  };
}

function produceById(batches: readonly PartitionBatch[], timeoutMs: number): Exchange<readonly ProduceOutcome[]> {
  return {
    ...produceShape(batches, timeoutMs),
    version: 13,
    flexible: true,
    write: (to) => {
      to.writeUVarIntString(WITHOUT_TRANSACTIONS).writeInt16(ALL_REPLICAS).writeInt32(timeoutMs);
      writeCompactByTopic(
        to,
        batches,
        ({ topicId }) => topicId,
        (topicId) => writeTopicId(to, topicId),
        ({ partition, batch }) => {
          to.writeInt32(partition).writeUVarIntBytes(bufferOf(batch));
          writeTags(to);
        },
      );
      writeTags(to);
    },
    read: (from) => {
      const names = namesOf(batches);
      const outcomes = readCompactByTopic(from, names, (topic) => {
        const partition = from.readInt32();
        const outcome = { topic, partition, error: errorName(from.readInt16()), baseOffset: readInteger(from) };
        from.readInt64(); // when it was appended
        readInteger(from); // where the log starts
        readCompactArray(from, () => {
          from.readInt32(); // a record that was refused
          readCompactText(from); // and why
          skipTags(from);
        });
        readCompactText(from); // the server's words for all of it
        skipTags(from);
        return outcome;
      });
      return inOrder(batches, outcomes);
    },
  };
}

function produceShape(batches: readonly PartitionBatch[], waitMs: number) {
  const size = batches.reduce((sum, { batch }) => sum + batch.byteLength + FRAME_BYTES, FRAME_BYTES);
  return { name: "Produce", key: 0, waitMs, size };
}

/** kafkajs would write another kind of array as its text. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** By the ids of topics, and so from no other topic of a name that was deleted and made again. */
export function fetch(request: FetchRequest): Exchange<readonly FetchedPartition[]> {
  return {
    name: "Fetch",
    key: 1,
    version: 13,
    flexible: true,
    lane: "fetch",
    waitMs: request.maxWaitMs,
    write: (to) => {
      const [noSession, noRack] = [0, ""];
      to.writeInt32(NO_REPLICA).writeInt32(request.maxWaitMs).writeInt32(request.minBytes).writeInt32(request.maxBytes);
      to.writeInt8(READ_COMMITTED).writeInt32(noSession).writeInt32(NO_EPOCH);
      writeCompactByTopic(
        to,
        request.partitions,
        ({ topicId }) => topicId,
        (topicId) => writeTopicId(to, topicId),
        ({ partition, offset, maxBytes }) => {
          to.writeInt32(partition).writeInt32(NO_EPOCH);
          writeInteger(to, offset);
          to.writeInt32(NO_EPOCH);
          const asFollower = -1;
          writeInteger(to, asFollower);
          to.writeInt32(maxBytes);
          writeTags(to);
        },
      );
      writeCompactArray(to, [], () => undefined); // what the session is to forget
      to.writeUVarIntString(noRack);
      writeTags(to);
    },
    read: (from) => {
      skipThrottleTime(from);
      const error = errorName(from.readInt16());
      from.readInt32(); // the session
      if (error !== undefined) return request.partitions.map((wanted) => unfetched(wanted, error));
      const outcomes = readCompactByTopic(from, namesOf(request.partitions), (topic) => {
        const fetched = {
          topic,
          partition: from.readInt32(),
          error: errorName(from.readInt16()),
          highWatermark: readInteger(from),
          lastStableOffset: readInteger(from),
          logStartOffset: readInteger(from),
          abortedTransactions: readCompactArray(from, () => {
            const aborted = { producerId: from.readInt64(), firstOffset: readInteger(from) };
            skipTags(from);
            return aborted;
          }),
        };
        from.readInt32(); // the replica to read from, for those that name their rack
        const records = readCompactBytes(from);
        skipTags(from);
        return { ...fetched, records };
      });
      return inOrder(request.partitions, outcomes);
    },
  };
}

/** The names of topics by their ids. */
function namesOf(
  asked: readonly { readonly topic: string; readonly topicId: TopicId }[],
): ReadonlyMap<TopicId, string> {
  return new Map(asked.map(({ topic, topicId }) => [topicId, topic]));
}

/** Reads what is said of partitions by the ids of their topics. */
function readCompactByTopic<Item>(
  from: AnswerReader,
  names: ReadonlyMap<TopicId, string>,
  read: (topic: string) => Item,
): readonly Item[] {
  return readCompactArray(from, () => {
    const topic = names.get(readTopicId(from)) ?? "";
    const items = readCompactArray(from, () => read(topic));
    skipTags(from);
    return items;
  }).flat();
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
        from.readInt64(); // the time of the record found, which may be any, also no date
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
