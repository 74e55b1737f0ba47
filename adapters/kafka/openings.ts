import type { Clock, Random } from "../../core/clock.ts";
import type { ConsumerOptions, RecordConsumer, RecordSink } from "./consuming/contract.ts";
import type { RecordDecoder } from "./consuming/fetcher-parts.ts";
import { openConsumer } from "./consuming/open-consumer.ts";
import { type Log, PARTITION, PartitionLog } from "./dead-letters/index.ts";
import type { GroupMember, MemberOwner } from "./group/contract.ts";
import { openMember } from "./group/member.ts";
import type { Settings } from "./options.ts";
import type { KafkaClient, TopicPartition } from "./port.ts";
import { decodeRecords } from "./records/decode.ts";
import type { Trimmer } from "./topology/trimmer.ts";

/** How much longer than a consumer may drain its group waits for it: it has to commit as well. */
const LAST_COMMIT_MS = 10_000;

type OpeningSettings = Pick<
  Settings,
  | "sessionTimeoutMs"
  | "drainTimeoutMs"
  | "requestTimeoutMs"
  | "reconnectFirstMs"
  | "reconnectMaxMs"
  | "maxInflatedBytes"
>;

/** Opens what reads. */
export class Openings {
  readonly #client: KafkaClient;
  readonly #settings: OpeningSettings;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #trimmer: Trimmer | undefined;
  readonly #decode: RecordDecoder;

  /** With a trimmer, what is handled is deleted where it is nobody else's. */
  constructor(
    client: KafkaClient,
    settings: OpeningSettings,
    clock: Clock,
    random: Random,
    trimmer: Trimmer | undefined,
  ) {
    this.#client = client;
    this.#settings = settings;
    this.#clock = clock;
    this.#random = random;
    this.#trimmer = trimmer;
    const { maxInflatedBytes } = settings;
    this.#decode = (bytes, options) => decodeRecords(bytes, { ...options, limits: { maxInflatedBytes } });
  }

  /** With a `heartbeatMs` for its member, where others need not hear of it soon; see {@link MemberOptions}. */
  consumer(options: ConsumerOptions, sink: RecordSink, heartbeatMs?: number): Promise<RecordConsumer> {
    const { drainTimeoutMs, reconnectFirstMs, reconnectMaxMs, sessionTimeoutMs } = this.#settings;
    return openConsumer(
      {
        client: this.#client,
        decode: this.#decode,
        clock: this.#clock,
        random: this.#random,
        retry: { firstMs: reconnectFirstMs, maxMs: reconnectMaxMs },
        drainMs: drainTimeoutMs,
        sessionTimeoutMs,
        openMember: ({ group, topics }, owner) => this.member(group, topics, owner, heartbeatMs),
        progressed: (at) => {
          // The topic of events is that of other subscriptions too.
          if (at.topic === options.group) this.#trimmer?.progressed(options.group, at);
        },
      },
      options,
      sink,
    );
  }

  member(group: string, topics: readonly string[], owner: MemberOwner, heartbeatMs?: number): GroupMember {
    const { sessionTimeoutMs, drainTimeoutMs } = this.#settings;
    return openMember({
      client: this.#client,
      group,
      topics,
      sessionTimeoutMs,
      rebalanceTimeoutMs: drainTimeoutMs + LAST_COMMIT_MS,
      ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
      owner,
      clock: this.#clock,
      random: this.#random,
    });
  }

  /** The one partition of a topic of dead letters. */
  deadLetters(topic: string): Log {
    return this.log({ topic, partition: PARTITION });
  }

  /** Reads a partition, whoever consumes from it. */
  log(at: TopicPartition): Log {
    return new PartitionLog(at, {
      connection: this.#client.connection(),
      decode: this.#decode,
      clock: this.#clock,
      patienceMs: this.#settings.requestTimeoutMs,
    });
  }
}
