import type {
  ErrorName,
  FetchedFrom,
  FetchedPartition,
  FetchRequest,
  ListedOffset,
  PartitionBatch,
  PartitionOffset,
  PartitionOutcome,
  ProduceOutcome,
  ProducerIdentity,
  TopicId,
  TopicPartition,
  WantedOffset,
} from "../port.ts";
import {
  type AnswerReader,
  type Exchange,
  errorName,
  inOrder,
  readByTopic,
  readCompactArray,
  readCompactBytes,
  readCompactText,
  readInteger,
  readThrottleTime,
  readTopicId,
  skipTags,
  writeByTopic,
  writeCompactByTopic,
  writeInteger,
  writeTags,
  writeTopicId,
} from "./exchange.ts";

const ALL_REPLICAS = -1;
const NO_REPLICA = -1;
const READ_UNCOMMITTED = 0;
const READ_COMMITTED = 1;
const NO_EPOCH = -1;
const WITHOUT_TRANSACTIONS = null;
const TOPIC_ID = /^[A-Za-z0-9_-]{22}$/;
/** Room for the names and numbers around a batch. */
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
      readThrottleTime(from);
      return { error: errorName(from.readInt16()), producerId: from.readInt64(), epoch: from.readInt16() };
    },
  };
}

export function produce(batches: readonly PartitionBatch[], timeoutMs: number): Exchange<readonly ProduceOutcome[]> {
  const isNamedById = batches.every(({ topicId }) => topicId !== "");
  return {
    ...produceShape(batches, timeoutMs),
    version: 7,
    // From Kafka 4.1 on, the id keeps records out of a topic that was just recreated.
    ...(isNamedById ? { later: produceById(batches, timeoutMs) } : {}),
    write: (to) => {
      to.writeString(WITHOUT_TRANSACTIONS).writeInt16(ALL_REPLICAS).writeInt32(timeoutMs);
      writeByTopic(to, batches, ({ batch }) => void to.writeBytes(bufferOf(batch)));
    },
    read: (from) => {
      const outcomes = readByTopic(from, (topic, partition) => {
        const outcome = { topic, partition, error: errorName(from.readInt16()), baseOffset: readInteger(from) };
        from.readInt64(); // append time
        readInteger(from); // log start
        return outcome;
      });
      readThrottleTime(from);
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
        from.readInt64(); // append time
        readInteger(from); // log start
        readCompactArray(from, () => {
          from.readInt32(); // index of a refused record
          readCompactText(from); // reason
          skipTags(from);
        });
        readCompactText(from); // error message
        skipTags(from);
        return outcome;
      });
      readThrottleTime(from);
      return inOrder(batches, outcomes);
    },
  };
}

function produceShape(batches: readonly PartitionBatch[], waitMs: number) {
  const size = batches.reduce((sum, { batch }) => sum + batch.byteLength + FRAME_BYTES, FRAME_BYTES);
  return { name: "Produce", key: 0, waitMs, size };
}

/** kafkajs would write other typed arrays as text. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A fetch request as sent. */
export interface WireFetch extends FetchRequest {
  /** The fetch session that this request changes. Default: no session. */
  readonly session?: {
    readonly id: number;
    /** The number of the request; 0 for a complete one. */
    readonly epoch: number;
    readonly forgotten: readonly FetchedFrom[];
    /** The names of all topics in the session. */
    readonly names: ReadonlyMap<TopicId, string>;
  };
}

/** The answer to a fetch. */
export interface Fetched {
  /** For how many milliseconds a quota forbids further requests. */
  readonly throttledMs: number;
  /** The error of the whole request; there are no partitions then. */
  readonly error: ErrorName;
  /** The session; 0 for none. */
  readonly sessionId: number;
  /** All requested partitions, or those with news in a session; none if a quota is used up. */
  readonly partitions: readonly FetchedPartition[];
}

/** Throws for a request that cannot be sent. */
export function checkFetch(partitions: readonly FetchedFrom[]): void {
  for (const { offset, topicId } of partitions) {
    if (!Number.isSafeInteger(offset)) throw new RangeError(`${offset} is no offset`);
    if (!TOPIC_ID.test(topicId)) throw new RangeError(`"${topicId}" is no id of a topic`);
  }
  if (new Set(partitions.map(({ topic, partition }) => `${topic}/${partition}`)).size < partitions.length) {
    throw new RangeError("a partition is asked for twice");
  }
}

/** Fetches by topic id, so never from another topic of the same name. */
export function fetch(request: WireFetch): Exchange<Fetched> {
  const { id, epoch, forgotten, names } = request.session ?? {
    id: 0,
    epoch: NO_EPOCH,
    forgotten: [],
    names: namesOf(request.partitions),
  };
  return {
    name: "Fetch",
    key: 1,
    version: 13,
    flexible: true,
    waitMs: request.maxWaitMs,
    write: (to) => {
      const noRack = "";
      to.writeInt32(NO_REPLICA).writeInt32(request.maxWaitMs).writeInt32(request.minBytes).writeInt32(request.maxBytes);
      to.writeInt8(READ_COMMITTED).writeInt32(id).writeInt32(epoch);
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
      writeCompactByTopic(
        to,
        forgotten,
        ({ topicId }) => topicId,
        (topicId) => writeTopicId(to, topicId),
        ({ partition }) => void to.writeInt32(partition),
      );
      to.writeUVarIntString(noRack);
      writeTags(to);
    },
    read: (from) => {
      const throttledMs = readThrottleTime(from);
      const error = errorName(from.readInt16());
      const sessionId = from.readInt32();
      if (error !== undefined) return { throttledMs, error, sessionId, partitions: [] };
      const outcomes = readCompactByTopic(from, names, (topic) => {
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
        from.readInt32(); // preferred replica, for clients with a rack
        const records = readCompactBytes(from);
        skipTags(from);
        return { ...fetched, records };
      });
      const saysAll = epoch <= 0 && (throttledMs === 0 || outcomes.length > 0);
      return { throttledMs, error, sessionId, partitions: saysAll ? inOrder(request.partitions, outcomes) : outcomes };
    },
  };
}

/** Topic names by id. */
function namesOf(
  asked: readonly { readonly topic: string; readonly topicId: TopicId }[],
): ReadonlyMap<TopicId, string> {
  return new Map(asked.map(({ topic, topicId }) => [topicId, topic]));
}

/** Reads partitions grouped by topic id. */
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

/** An answer for a partition with an error. */
export function unfetched({ topic, partition }: TopicPartition, error: string): FetchedPartition {
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
      readThrottleTime(from);
      const outcomes = readByTopic(from, (topic, partition) => {
        const error = errorName(from.readInt16());
        from.readInt64(); // the record's time, which may be invalid as a date
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
      readThrottleTime(from);
      const outcomes = readByTopic(from, (topic, partition) => {
        readInteger(from); // log start
        return { topic, partition, error: errorName(from.readInt16()) };
      });
      return inOrder(before, outcomes);
    },
  };
}
