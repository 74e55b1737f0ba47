import type {
  AdapterSignals,
  DeliverySink,
  Depth,
  IncomingMessage,
  OutgoingMessage,
  QuarantineLog,
  ReceiveOptions,
  Receiver,
  SendReport,
  StartPosition,
  Topology,
  Watcher,
} from "../../core/adapter.ts";
import type {
  Address,
  DeadLettersAddress,
  QueueAddress,
  Source,
  SubscriptionAddress,
  TopicAddress,
  WorkAddress,
} from "../../core/address.ts";
import { systemClock, systemRandom } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { Cluster } from "./cluster.ts";
import { countDeadLetters } from "./dead-letters/references.ts";
import { RepeatedNotices } from "./delays/forwarder.ts";
import type { KafkaRecord } from "./message-codec.ts";
import { topicName } from "./names.ts";
import type { Settings } from "./options.ts";
import type { KafkaClient, KafkaConnection } from "./port.ts";
import { createProducer, type KafkaProducer } from "./producing/idempotent-producer.ts";
import { KafkaPublisher } from "./publisher.ts";
import { KafkaQuarantineLog } from "./quarantine-log.ts";
import {
  ConsumerFactory,
  DelayForwarders,
  openReceiver,
  type ReceiverContext,
  references,
  resolveReference,
} from "./receiver.ts";
import { checkCompression, storedCompression } from "./records/contract.ts";
import { GroupPositions, lag, rewind } from "./topology/positions.ts";
import {
  otherGroups,
  ownGroup,
  slowGroupNotice,
  type TrimBound,
  Trimmer,
  type TrimTarget,
} from "./topology/trimmer.ts";
import { TopologyRecovery } from "./topology-recovery.ts";
import { browseDeadLetters, watchLogs } from "./watching.ts";

/** Kafka's own default: the group of a forwarder seldom changes. */
const FORWARDER_HEARTBEAT_MS = 3_000;

/** The state of the adapter between `open` and `close`. */
export class Session {
  readonly #signals: AdapterSignals;
  readonly #ended = new AbortController();
  readonly #connections: readonly KafkaConnection[];
  readonly #cluster: Cluster;
  readonly #producer: KafkaProducer;
  readonly #recovery: TopologyRecovery;
  readonly #sender: KafkaPublisher;
  readonly #trimmer: Trimmer;
  readonly #requestTimeoutMs: number;
  readonly #unread: RepeatedNotices;
  readonly #receiving: ReceiverContext;
  readonly #receivers = new Set<Receiver>();
  /** Each ends one watch. */
  readonly #watches = new Set<() => Promise<void>>();
  #closing: Promise<void> | undefined;

  constructor(client: KafkaClient, settings: Settings, signals: AdapterSignals) {
    const { requestTimeoutMs, compression, maxInflatedBytes } = settings;
    // Nobody here could read what the brokers compress by another codec.
    checkCompression(storedCompression(settings.topicConfiguration["compression.type"]));
    const [clock, random] = [systemClock(), systemRandom()];
    const [asking, producing] = [client.connection(), client.connection()];
    const notice = (error: MessagingError): void => this.#notice(error);
    this.#signals = signals;
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#unread = new RepeatedNotices(clock, notice);
    this.#connections = [asking, producing];
    this.#cluster = new Cluster(asking, requestTimeoutMs, this.#ended.signal);
    this.#recovery = new TopologyRecovery(this.#cluster, settings, notice);
    this.#trimmer = new Trimmer(this.#cluster, this.#trimBounds(asking, settings), notice);
    const trimmer = settings.trim === "never" ? undefined : this.#trimmer;
    const factory = new ConsumerFactory(client, settings, clock, random, trimmer);
    const producer = createProducer({
      connection: producing,
      compression,
      maxInflatedBytes,
      requestTimeoutMs,
      reconnect: { firstMs: settings.reconnectFirstMs, maxMs: settings.reconnectMaxMs },
      clock,
      random,
      signals: { up: () => this.#onRestored(), down: (cause) => this.#onLost(cause), notice },
    });
    this.#producer = producer;
    this.#sender = new KafkaPublisher({
      producer,
      random,
      now: () => clock.now(),
      restore: (topic) => this.#recovery.restore(topic),
    });
    this.#receiving = {
      cluster: this.#cluster,
      factory,
      forwarders: new DelayForwarders({
        producer,
        clock,
        random,
        passesUnreadable: settings.unreadable === "dead-letter",
        references: (of) => references({ factory, notice }, of),
        openConsumer: (options, sink) => factory.consumer(options, sink, FORWARDER_HEARTBEAT_MS),
        notice,
      }),
      producer,
      sender: this.#sender,
      passesUnreadable: settings.unreadable === "dead-letter",
      clock,
      random,
      notice,
      restore: () => void this.#recovery.restoreAll(),
      closed: (receiver) => void this.#receivers.delete(receiver),
    };
  }

  /** Every reason to keep a record of a queue. */
  #trimBounds(connection: KafkaConnection, { trim }: Settings): readonly TrimBound[] {
    const own = ownGroup(this.#cluster);
    if (trim !== "shared") return [own];
    const reported = new Set<string>();
    const slow = (place: TrimTarget, group: string): void => {
      const notice = slowGroupNotice(place, group);
      if (!reported.has(notice.message)) this.#notice(notice);
      reported.add(notice.message);
    };
    return [own, otherGroups(new GroupPositions(connection), slow)];
  }

  async open(): Promise<void> {
    try {
      for (const connection of this.#connections) await connection.connect();
      await this.#producer.open();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  declare(topology: Topology): Promise<readonly MessagingError[]> {
    return this.#recovery.declare(topology);
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    this.#sender.send(to, batch, report);
  }

  async receive(from: Source, options: ReceiveOptions, sink: DeliverySink<KafkaRecord>): Promise<Receiver> {
    const receiver = await openReceiver(this.#receiving, from, options, sink);
    if (this.#closing !== undefined) {
      await receiver.close();
      throw new MessagingError("closed", "the Kafka adapter was closed while a receiver was opened");
    }
    this.#receivers.add(receiver);
    return receiver;
  }

  async identities(): Promise<readonly unknown[]> {
    const { clusterId } = await this.#cluster.metadata([]);
    return clusterId === "" ? [] : [`kafka ${clusterId}`];
  }

  async depth(of: Address): Promise<Depth> {
    switch (of.kind) {
      case "topic":
      case "quarantine":
        await this.#cluster.topics([topicName(of)]);
        // Unhandled events count for their subscription, and a quarantine log holds no messages.
        return { ready: 0, unsettled: undefined, exact: true };
      case "dead-letters": {
        const { size, unread } = await countDeadLetters(this.#receiving.factory.deadLetters(topicName(of)));
        if (unread !== undefined) this.#reportUnread(of, unread);
        return { ready: size, unsettled: undefined, exact: unread === undefined };
      }
      default:
        return lag(this.#cluster, of);
    }
  }

  browse(of: DeadLettersAddress): AsyncGenerator<readonly IncomingMessage<KafkaRecord>[], void, undefined> {
    const log = this.#receiving.factory.deadLetters(topicName(of));
    return browseDeadLetters(log, (unread) => this.#reportUnread(of, unread));
  }

  #reportUnread(of: DeadLettersAddress, cause: MessagingError): void {
    const topic = topicName(of);
    const text = `dead letters in "${topic}" cannot be read, and are neither listed nor counted; they stay there`;
    this.#unread.report(topic, new MessagingError(cause.code, text, { cause }));
  }

  resolve(of: DeadLettersAddress, letter: IncomingMessage): Promise<readonly IncomingMessage<KafkaRecord>[]> {
    return resolveReference(this.#receiving.factory, of, letter);
  }

  quarantine(of: WorkAddress): QuarantineLog {
    const topic = topicName({ kind: "quarantine", of });
    return new KafkaQuarantineLog(topic, {
      producer: this.#producer,
      clock: this.#receiving.clock,
      requestTimeoutMs: this.#requestTimeoutMs,
      openLog: (at) => this.#receiving.factory.log(at),
      restore: () => this.#recovery.restore(topic),
      ended: this.#ended.signal,
    });
  }

  async watch(of: QueueAddress | TopicAddress, watcher: Watcher<KafkaRecord>): Promise<() => Promise<void>> {
    const { factory } = this.#receiving;
    const end = await watchLogs(this.#cluster, topicName(of), (at) => factory.log(at), watcher);
    this.#watches.add(end);
    return () => {
      this.#watches.delete(end);
      return end();
    };
  }

  rewind(of: SubscriptionAddress, to: StartPosition): Promise<void> {
    return rewind(this.#cluster, of, to);
  }

  /** A second call waits for the first. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#receivers].map((receiver) => receiver.close()));
    await Promise.all([...this.#watches].map((end) => end()));
    this.#trimmer.close();
    this.#ended.abort();
    this.#producer.close();
    await Promise.all(this.#connections.map((connection) => connection.close()));
  }

  #notice(error: MessagingError): void {
    if (this.#closing === undefined) this.#signals.notice(error);
  }

  #onLost(cause: MessagingError): void {
    if (this.#closing === undefined) this.#signals.down(cause);
  }

  #onRestored(): void {
    if (this.#closing !== undefined) return;
    this.#signals.up();
    // Runs in the background: a topic that is still missing is reported when it is used.
    void this.#recovery.restoreAll();
  }
}
