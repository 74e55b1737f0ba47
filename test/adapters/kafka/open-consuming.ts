import type { ConsumerOptions, RecordSink } from "../../../adapters/kafka/consuming/assigned-partition.ts";
import { openConsumer } from "../../../adapters/kafka/consuming/consumer.ts";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import { openMember } from "../../../adapters/kafka/group/member.ts";
import { kafkaJsClient } from "../../../adapters/kafka/kafkajs/cluster-connection.ts";
import type { KafkaClient, KafkaConnection, PartitionOffset } from "../../../adapters/kafka/port.ts";
import { decodeRecords } from "../../../adapters/kafka/records/decode.ts";
import { systemClock, systemRandom } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";

/** The shortest that Kafka allows unless told otherwise. */
const SESSION_MS = 6_000;
const DRAIN_MS = 20_000;

export type Consuming = Awaited<ReturnType<typeof openConsuming>>;

/** A consumer over real connections, and everything that it says. */
export async function openConsuming(
  brokers: readonly string[],
  options: Pick<ConsumerOptions, "group" | "topics"> & Partial<ConsumerOptions>,
) {
  const client = new MortalClient(
    kafkaJsClient({ brokers, clientId: "consuming-test", connectionTimeoutMs: 10_000, requestTimeoutMs: 10_000 }),
  );
  const held: DeliveredRecord[] = [];
  const revoked: DeliveredRecord[] = [];
  const lost: DeliveredRecord[] = [];
  const stalls: MessagingError[] = [];
  const notices: MessagingError[] = [];
  const progressed: PartitionOffset[] = [];
  const heard = { flowing: 0, most: 0 };
  const sink: RecordSink = {
    deliver: (records) => void held.push(...records),
    revoke: (records) => void revoked.push(...records),
    lost: (records) => void lost.push(...records),
    stalled: (cause) => void stalls.push(cause),
    flowing: () => void heard.flowing++,
    notice: (error) => void notices.push(error),
  };
  const [clock, random] = [systemClock(), systemRandom()];
  const parts = {
    client,
    decode: decodeRecords,
    clock,
    random,
    retry: { firstMs: 20, maxMs: 500 },
    drainMs: DRAIN_MS,
    progressed: (at: PartitionOffset) => void progressed.push(at),
    openMember: (
      subscription: Pick<ConsumerOptions, "group" | "topics">,
      listener: Parameters<typeof openMember>[0]["listener"],
    ) =>
      openMember({
        client,
        ...subscription,
        listener,
        clock,
        random,
        sessionTimeoutMs: SESSION_MS,
        rebalanceTimeoutMs: DRAIN_MS + 10_000,
        heartbeatMs: 500,
      }),
  };
  const consumer = await openConsumer(parts, { prefetch: 100, prefetchPer: "consumer", ...options }, sink);
  return {
    consumer,
    held,
    revoked,
    lost,
    stalls,
    notices,
    progressed,
    heard,
    values: () => held.map(textOf),
    /** Settles, and resolves with the results. */
    settle: (records: readonly DeliveredRecord[], action: "ack" | "requeue" = "ack") =>
      consumer.settle(records.map((token) => ({ token, action }))),
    /** As if its process were killed: nothing goes out any more, not even a good-bye. */
    kill: () => client.kill(),
  };
}

export function textOf({ record }: DeliveredRecord): string {
  return String(record.value);
}

/** A client whose connections can all die at once. */
class MortalClient implements KafkaClient {
  readonly #client: KafkaClient;
  readonly #connections = new Set<KafkaConnection>();
  #isDead = false;

  constructor(client: KafkaClient) {
    this.#client = client;
  }

  connection(): KafkaConnection {
    const connection = this.#client.connection();
    this.#connections.add(connection);
    const call = (use: unknown) =>
      typeof use !== "function"
        ? use
        : (...given: unknown[]) => (this.#isDead ? new Promise(() => {}) : use.apply(connection, given));
    return new Proxy(connection, { get: (target, name) => call(Reflect.get(target, name)) });
  }

  async kill(): Promise<void> {
    this.#isDead = true;
    await Promise.all([...this.#connections].map((connection) => connection.close()));
  }
}
