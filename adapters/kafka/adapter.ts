import { Kafka, logLevel, type SASLOptions } from "kafkajs";
import type {
  Adapter,
  AdapterSignals,
  DeliverySink,
  Depth,
  IncomingMessage,
  OutgoingMessage,
  QuarantineLog,
  ReceiveOptions,
  Receiver,
  SendLimits,
  SendReport,
  StartPosition,
  Topology,
  Watcher,
} from "../../core/adapter.ts";
import { addressesAmong, CurrentSession } from "../../core/adapter-support.ts";
import type {
  Address,
  DeadLettersAddress,
  QueueAddress,
  Source,
  SubscriptionAddress,
  TopicAddress,
  WorkAddress,
} from "../../core/address.ts";
import type { Capabilities } from "../../core/capabilities.ts";
import type { MessagingError } from "../../core/errors.ts";
import { capabilitiesOf } from "./capabilities.ts";
import { Cluster } from "./cluster.ts";
import { kafkaJsClient } from "./kafkajs/cluster-connection.ts";
import type { KafkaRecord } from "./message-codec.ts";
import { physicalName, topicName } from "./names.ts";
import { type KafkaOptions, resolveOptions, type Settings } from "./options.ts";
import type { KafkaClient, KafkaConnection } from "./port.ts";
import { Session } from "./session.ts";
import { removeAll } from "./topology-recovery.ts";

const SEND_LIMITS: SendLimits = Object.freeze({
  maxBatchMessages: 2_000,
  maxBatchBytes: 1024 * 1024,
  maxBatchesInFlight: 5,
  // The producer is idempotent and sends nothing behind a failure in its partition.
  storesInOrder: true,
});

/** The Kafka adapter. Created by {@link kafka}. */
export class KafkaAdapter implements Adapter<KafkaRecord> {
  readonly name = "kafka";
  readonly capabilities: Capabilities;
  readonly sendLimits = SEND_LIMITS;
  readonly #settings: Settings;
  readonly #client: KafkaClient;
  readonly #session = new CurrentSession<Session>("Kafka");

  constructor(options: KafkaOptions) {
    this.#settings = resolveOptions(options);
    this.capabilities = capabilitiesOf(this.#settings);
    const { brokers, clientId, ssl, sasl, connectTimeoutMs, requestTimeoutMs } = this.#settings;
    this.#client = kafkaJsClient({
      brokers,
      clientId,
      ...(ssl === undefined ? {} : { ssl }),
      ...(sasl === undefined ? {} : { sasl }),
      connectionTimeoutMs: connectTimeoutMs,
      requestTimeoutMs,
    });
  }

  /**
   * Creates a silent kafkajs client for the same cluster and login, for what anybroker does not offer. The caller
   * closes what it opens with it.
   */
  kafkajs(): Kafka {
    const { brokers, clientId, ssl } = this.#settings;
    const sasl: SASLOptions | undefined = this.#settings.sasl;
    return new Kafka({
      brokers: [...brokers],
      clientId,
      logLevel: logLevel.NOTHING,
      ...(ssl === undefined ? {} : { ssl }),
      ...(sasl === undefined ? {} : { sasl }),
    });
  }

  physicalName(address: Address): string {
    return physicalName(address);
  }

  open(signals: AdapterSignals): Promise<void> {
    return this.#session.open(() => new Session(this.#client, this.#settings, signals));
  }

  declare(topology: Topology): Promise<readonly MessagingError[]> {
    return this.#session.use((session) => session.declare(topology));
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    this.#session.send(to, batch, report);
  }

  receive(from: Source, options: ReceiveOptions, sink: DeliverySink<KafkaRecord>): Promise<Receiver> {
    return this.#session.use((session) => session.receive(from, options, sink));
  }

  async *browse(of: DeadLettersAddress): AsyncGenerator<readonly IncomingMessage<KafkaRecord>[], void, undefined> {
    yield* await this.#session.use(async (session) => session.browse(of));
  }

  resolve(of: DeadLettersAddress, letter: IncomingMessage): Promise<readonly IncomingMessage<KafkaRecord>[]> {
    return this.#session.use((session) => session.resolve(of, letter));
  }

  quarantine(of: WorkAddress): QuarantineLog {
    return {
      append: (record) => this.#session.use((session) => session.quarantine(of).append(record)),
      read: () => this.#session.use((session) => session.quarantine(of).read()),
    };
  }

  depth(of: Address): Promise<Depth> {
    return this.#session.use((session) => session.depth(of));
  }

  async list(): Promise<readonly (WorkAddress | TopicAddress)[]> {
    return addressesAmong(await this.#asking((cluster) => cluster.topicNames()), topicName);
  }

  /** How many servers the cluster has. Rejects if one of them cannot be reached where it is said to be. */
  serverCount(): Promise<number> {
    return this.#asking(async (cluster, connection) => {
      const { nodes } = await cluster.metadata([]);
      for (const node of nodes) await connection.listOffsets(node, []);
      return nodes.length;
    });
  }

  /** Asks the cluster, whether this adapter is open or not. */
  async #asking<Answer>(ask: (cluster: Cluster, connection: KafkaConnection) => Promise<Answer>): Promise<Answer> {
    const connection = this.#client.connection();
    const ended = new AbortController();
    try {
      return await ask(new Cluster(connection, this.#settings.requestTimeoutMs, ended.signal), connection);
    } finally {
      await connection.close();
    }
  }

  identities(): Promise<readonly unknown[]> {
    return this.#session.use((session) => session.identities());
  }

  rewind(of: SubscriptionAddress, to: StartPosition): Promise<void> {
    return this.#session.use((session) => session.rewind(of, to));
  }

  watch(of: QueueAddress | TopicAddress, watcher: Watcher<KafkaRecord>): Promise<() => Promise<void>> {
    return this.#session.use((session) => session.watch(of, watcher));
  }

  remove(topology: Topology): Promise<void> {
    return removeAll(this.kafkajs().admin(), topology, this.#settings);
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}
