import type { Admin } from "kafkajs";
import { type KafkaJsConfiguration, kafkaJsClient } from "../../../../adapters/kafka/kafkajs/cluster-connection.ts";
import type { KafkaConnection, PartitionBatch, TopicId } from "../../../../adapters/kafka/port.ts";
import { decodeRecords } from "../../../../adapters/kafka/records/decode.ts";
import { encodeRecordBatch } from "../../../../adapters/kafka/records/encode.ts";
import { isMessagingError, type MessagingError } from "../../../../core/errors.ts";
import { until } from "../../../brokers/until.ts";

/** A connection, not yet open. */
export function connectionTo(brokers: readonly string[], given: Partial<KafkaJsConfiguration> = {}): KafkaConnection {
  const timeouts = { connectionTimeoutMs: 60_000, requestTimeoutMs: 60_000 };
  return kafkaJsClient({ brokers, clientId: "wire-test", ...timeouts, ...given }).connection();
}

/** A batch of values from nobody in particular. */
export function batchOf(topic: string, partition: number, ...values: readonly string[]): PartitionBatch {
  const records = values.map((value) => ({ key: undefined, value: Buffer.from(value), headers: [] }));
  const nobody = { producerId: -1n, epoch: -1, firstSequence: -1 };
  return { topic, topicId: "", partition, batch: encodeRecordBatch(records, { ...nobody, timestamp: Date.now() }) };
}

/** The values in fetched records. */
export async function valuesIn(records: Buffer): Promise<string[]> {
  const decoded = await decodeRecords(records, { topic: "", partition: 0, from: 0, abortedTransactions: [] });
  return decoded.records.map(({ value }) => String(value));
}

/** Makes topics, and waits until their leaders know that they lead. */
export async function makeTopics(connection: KafkaConnection, partitions: number, ...topics: string[]): Promise<void> {
  const outcomes = await connection.createTopics(
    topics.map((topic) => ({ topic, partitions, replicationFactor: 1, configuration: {} })),
  );
  for (const { topic, error } of outcomes) if (error) throw new Error(`${topic}: ${error}`);
  await until("leaders", 30_000, async () => {
    const metadata = await connection.metadata(topics);
    const made = metadata.topics.flatMap(({ topic, partitions }) => partitions.map((led) => ({ ...led, topic })));
    if (made.length < topics.length * partitions) throw new Error(`${made.length} partitions are known`);
    for (const { topic, partition, leader } of made) {
      const [listed] = await connection.listOffsets(leader, [{ topic, partition, at: "latest" }]);
      if (listed?.error !== undefined) throw new Error(listed.error);
    }
  });
}

/** The id of a topic that stands. */
export async function idOf(connection: KafkaConnection, topic: string): Promise<TopicId> {
  const { topics } = await connection.metadata([topic]);
  return topics[0]?.id ?? "";
}

/** Deletes a topic. Resolves when the server says that it is gone, or another one: before that it still takes messages. */
export async function deleteTopic(connection: KafkaConnection, admin: Admin, topic: string): Promise<void> {
  const before = await idOf(connection, topic);
  await admin.deleteTopics({ topics: [topic] });
  await until("the end of the topic", 60_000, async () => {
    if ((await idOf(connection, topic)) === before) throw new Error(`${topic} still has the id ${before}`);
  });
}

/** Deletes a topic and makes it again, as soon as the server lets it, unless somebody else is faster. */
export async function makeAgain(
  connection: KafkaConnection,
  admin: Admin,
  topic: string,
  partitions = 1,
): Promise<void> {
  const before = await idOf(connection, topic);
  await admin.deleteTopics({ topics: [topic] });
  await until("the new topic", 60_000, async () => {
    const [outcome] = await connection.createTopics([{ topic, partitions, replicationFactor: 1, configuration: {} }]);
    if (["", before].includes(await idOf(connection, topic))) throw new Error(`it is not known yet: ${outcome?.error}`);
  });
}

/** The node that coordinates a group, which a new server knows after a while. */
export function coordinatorOf(connection: KafkaConnection, group: string): Promise<number> {
  return until("a coordinator", 60_000, async () => {
    const { error, node } = await connection.coordinator(group);
    const described = error === undefined ? await connection.describeGroup(node, group) : { error };
    if (described.error !== undefined) throw new Error(described.error);
    return node;
  });
}

/** What a call rejects with. */
export async function refusal(call: Promise<unknown>): Promise<MessagingError> {
  const outcome = await call.then(
    () => new Error("it was done"),
    (error: unknown) => error,
  );
  if (isMessagingError(outcome)) return outcome;
  throw outcome;
}
