import type { ChannelModel, ConsumeMessage } from "amqplib";
import type {
  AdapterSignals,
  DeliverySink,
  Depth,
  OutgoingMessage,
  ReceiveOptions,
  Receiver,
  SendReport,
  Topology,
  Watcher,
} from "../../core/adapter.ts";
import { DeclaredTopology } from "../../core/adapter-support.ts";
import {
  type Address,
  describeAddress,
  type QueueAddress,
  type Source,
  type TopicAddress,
  type WorkAddress,
} from "../../core/address.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { type Connection, SupervisedConnection, withChannel } from "./connection.ts";
import { incomingDeadLetter } from "./dead-letters.ts";
import { DeclaredResources, missing, type Resource } from "./declared-resources.ts";
import { isUnreadable, NOT_FOUND, operationError, replyCode } from "./errors.ts";
import type { LearnedLimit } from "./hold-limit.ts";
import { readDelaysUnderWay } from "./management.ts";
import { incomingWork } from "./message-codec.ts";
import { deadLettersOf, exchangeName, quarantineOf, queueName } from "./names.ts";
import { Hosts, placesText, type Settings } from "./options.ts";
import type { PolicyFindings } from "./policies.ts";
import { Publisher } from "./publisher.ts";
import { RabbitMQQuarantineLog } from "./quarantine-log.ts";
import { QueueReceiver, ReceiverLink } from "./receiver.ts";
import type { MessageReader } from "./receiving-channel.ts";
import { bindSubscriptions, establish, findPolicies, isAsDeclared, removeAll } from "./topology.ts";
import { recreatedNotices, removedWaitQueues, survey, TopologyWatch } from "./topology-recovery.ts";
import type { Established } from "./verification.ts";
import { watchTopic } from "./watching.ts";

/** amqplib's connections of one adapter; undefined while one is down. */
export interface RabbitMQConnections {
  readonly publishing: ChannelModel | undefined;
  readonly consuming: ChannelModel | undefined;
}

/**
 * The state of an adapter between `open` and `close`. It has two connections: during an alarm RabbitMQ stops reading
 * from a connection that publishes, and acks must not wait for that.
 */
export class Session {
  readonly #settings: Settings;
  readonly #hosts: Hosts;
  readonly #signals: AdapterSignals;
  readonly #known: DeclaredResources;
  readonly #publisher: Publisher;
  readonly #publishing: SupervisedConnection;
  readonly #consuming: SupervisedConnection;
  readonly #receivers = new Set<QueueReceiver>();
  /** The resources that each receiver needs on the broker. */
  readonly #needed = new WeakMap<QueueReceiver, readonly Resource[]>();
  readonly #watch: TopologyWatch;
  /** Texts of notices that are sent only once. */
  readonly #noticed = new Set<string>();
  /** Everything declared; it is declared again after a loss. */
  readonly #declared = new DeclaredTopology();
  readonly #learnedLimits = new Map<string, LearnedLimit>();
  readonly #logs = new Map<string, RabbitMQQuarantineLog>();
  #redeclaring: Promise<boolean> | undefined;
  #isUp = true;
  #isBlocked = false;
  #isClosed = false;

  constructor(settings: Settings, signals: AdapterSignals) {
    this.#settings = settings;
    this.#hosts = new Hosts(settings.hosts);
    this.#signals = signals;
    this.#known = new DeclaredResources(
      () => this.#consuming.current,
      () => this.#restore(),
      settings.requestTimeoutMs,
    );
    this.#watch = new TopologyWatch({
      requestTimeoutMs: settings.requestTimeoutMs,
      link: () => this.#consuming.current,
      consumed: () => [...this.#receivers].flatMap((receiver) => this.#needed.get(receiver) ?? []),
      isDeclared: (resource) => this.#known.isDeclared(resource),
      restore: () => this.#restore(),
      maintain: () => this.#maintain(),
      notice: (error) => this.#signals.notice(error),
    });
    this.#publisher = new Publisher(
      this.#known,
      settings,
      () => this.#watch.delayed(),
      (error) => this.#signals.notice(error),
    );
    const events = {
      restored: () => void this.#onRestored(),
      refused: (error: MessagingError) => this.#signals.notice(error),
    };
    this.#publishing = new SupervisedConnection(settings, this.#hosts, "publish", {
      ...events,
      lost: (cause) => {
        this.#setUnblocked();
        this.#onLost(cause);
      },
      prepare: (link) => {
        link.model.on("blocked", (reason) => this.#setBlocked(settings.redactor.text(reason)));
        link.model.on("unblocked", () => this.#setUnblocked());
        return this.#publisher.prepare(link);
      },
    });
    this.#consuming = new SupervisedConnection(settings, this.#hosts, "consume", {
      ...events,
      lost: (cause) => {
        this.#known.forgetAll();
        if (isUnreadable(cause.cause)) for (const receiver of this.#receivers) receiver.separate(cause);
        this.#onLost(cause);
      },
      prepare: () => Promise.resolve(),
    });
  }

  get connections(): RabbitMQConnections {
    return { publishing: this.#publishing.current?.model, consuming: this.#consuming.current?.model };
  }

  async open(): Promise<void> {
    const results = await Promise.allSettled([this.#publishing.open(), this.#consuming.open()]);
    for (const result of results) {
      if (result.status === "fulfilled") continue;
      await this.close();
      throw result.reason;
    }
    this.#watch.start();
  }

  async declare(topology: Topology): Promise<readonly MessagingError[]> {
    const link = this.#linkOrThrow();
    const isFirst = topology.mode === "create" && this.#declared.isEmpty;
    const removed = isFirst ? await removedWaitQueues(link, this.#settings.requestTimeoutMs) : [];
    const { problems, unverified } = await establish(link, topology, this.#settings, this.#known);
    if (topology.mode === "create") this.#declared.add(topology);
    this.#noticeRecreated(removed);
    const { problems: ofPolicies, notices } = await this.#checkPolicies(topology);
    this.#noticeOnce([...unverified, ...notices]);
    return [...problems, ...ofPolicies];
  }

  /** Verifies as `declare` does in mode `verify`, and also returns what could not be compared. */
  verify(topology: Topology): Promise<Established> {
    return establish(this.#linkOrThrow(), { ...topology, mode: "verify" }, this.#settings, this.#known);
  }

  /** What policies do to a topology; undefined without a management API. */
  policies(topology: Topology): Promise<PolicyFindings | undefined> {
    return findPolicies(this.#linkOrThrow(), topology, this.#settings);
  }

  /** How many delayed messages are between two wait queues; undefined without a management API. */
  async delaysUnderWay(): Promise<number | undefined> {
    const { managementUrl } = this.#settings;
    return managementUrl === undefined ? undefined : readDelaysUnderWay(managementUrl, this.#settings);
  }

  async #checkPolicies(topology: Topology): Promise<PolicyFindings> {
    const nothing: PolicyFindings = { problems: [], notices: [] };
    if (topology.mode === "none") return nothing;
    try {
      return (await this.policies(topology)) ?? nothing;
    } catch (error) {
      // A failure of the management API must not prevent a start, nor anything odd in its answer.
      return { problems: [], notices: [isMessagingError(error) ? error : policiesUnknown(error)] };
    }
  }

  async watch(of: QueueAddress | TopicAddress, watcher: Watcher<ConsumeMessage>): Promise<() => Promise<void>> {
    if (of.kind === "queue") {
      const why = "RabbitMQ shows the messages of a queue only to its consumers";
      throw new MessagingError("unsupported", `${describeAddress(of)} cannot be watched: ${why}`);
    }
    await this.#known.check(`exchange ${of.name}`);
    return watchTopic(this.#linkOrThrow(), this.#settings.requestTimeoutMs, of.name, watcher);
  }

  async remove(topology: Topology): Promise<void> {
    await removeAll(this.#linkOrThrow(), topology, this.#settings.requestTimeoutMs);
    this.#known.forgetAll();
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    this.#publisher.send(to, batch, report);
  }

  async receive(from: Source, options: ReceiveOptions, sink: DeliverySink<ConsumeMessage>): Promise<Receiver> {
    const read: MessageReader =
      from.kind === "dead-letters"
        ? (message, token, redeliveries) => incomingDeadLetter(from.of, message, token, redeliveries)
        : incomingWork;
    const receiver = new QueueReceiver(
      {
        requestTimeoutMs: this.#settings.requestTimeoutMs,
        consumerTimeoutMs: this.#settings.consumerTimeoutMs,
        notice: (error) => this.#signals.notice(error),
        restore: () => this.#restore(),
        deadLetters: async (queue) => from.kind !== "dead-letters" && (await this.#isAsDeclared(queue)),
        closed: (closed) => void this.#receivers.delete(closed),
      },
      new ReceiverLink(this.#settings, this.#hosts, () => this.#consuming.current),
      {
        queue: queueName(from),
        ordered: options.ordered,
        maxPrefetch: options.maxPrefetch,
        read,
        handlerTimeoutMs: options.handlerTimeoutMs,
        learned: this.#learnedLimit(from),
      },
      options.prefetch,
      sink,
    );
    this.#receivers.add(receiver);
    this.#needed.set(receiver, neededResources(from));
    try {
      await receiver.open(this.#linkOrThrow());
    } catch (error) {
      this.#receivers.delete(receiver);
      throw error;
    }
    // The connection may have been lost and restored while it subscribed.
    receiver.resume();
    return receiver;
  }

  async #isAsDeclared(queue: string): Promise<boolean> {
    if (this.#declared.isEmpty) return false;
    return isAsDeclared(this.#linkOrThrow(), queue, this.#declared.topology, this.#settings, this.#known);
  }

  #learnedLimit(from: Source): LearnedLimit {
    const work = queueName(from.kind === "dead-letters" ? from.of : from);
    const learned = this.#learnedLimits.get(work) ?? { ms: undefined };
    this.#learnedLimits.set(work, learned);
    return learned;
  }

  /** Returns one log for each source, so that concurrent readers share a read. */
  quarantine(of: WorkAddress): RabbitMQQuarantineLog {
    const address = { kind: "quarantine", of } as const;
    const name = queueName(address);
    const log =
      this.#logs.get(name) ??
      new RabbitMQQuarantineLog(address, {
        requestTimeoutMs: this.#settings.requestTimeoutMs,
        link: () => this.#linkOrThrow(),
        send: (to, batch, report) => this.send(to, batch, report),
        restore: () => this.#restore(),
      });
    this.#logs.set(name, log);
    return log;
  }

  async depth(of: Address): Promise<Depth> {
    if (of.kind === "topic") {
      await this.#known.check(`exchange ${of.name}`);
      // An exchange stores no messages.
      return { ready: 0, unsettled: undefined, exact: true };
    }
    const name = queueName(of);
    const what = `count the messages of ${describeAddress(of)}`;
    try {
      const { messageCount, consumerCount } = await withChannel(
        this.#linkOrThrow(),
        this.#settings.requestTimeoutMs,
        what,
        (channel) => channel.checkQueue(name),
      );
      return { ready: messageCount, unsettled: undefined, exact: false, consumers: consumerCount };
    } catch (error) {
      if (replyCode(error) === NOT_FOUND) throw missing(`queue ${name}`, error);
      throw operationError(error, what, "try again");
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#watch.stop();
    await Promise.all([...this.#receivers].map((receiver) => receiver.close()));
    await Promise.all([this.#publishing.close(), this.#consuming.close()]);
  }

  #linkOrThrow(): Connection {
    const link = this.#consuming.current;
    if (link !== undefined) return link;
    throw new MessagingError("unreachable", `not connected to RabbitMQ at ${placesText(this.#settings)}; reconnecting`);
  }

  #onLost(cause: MessagingError): void {
    if (this.#isClosed || !this.#isUp) return;
    this.#isUp = false;
    this.#signals.down(cause);
  }

  async #onRestored(): Promise<void> {
    if (this.#publishing.current === undefined) return;
    const link = this.#consuming.current;
    if (link === undefined) return;
    await this.#restore();
    // If a connection was lost again, the next reconnect continues from here.
    if (this.#isClosed || this.#isUp || this.#consuming.current !== link || this.#publishing.current === undefined)
      return;
    this.#isUp = true;
    for (const receiver of this.#receivers) receiver.resume();
    this.#signals.up();
  }

  /** Declares everything again if allowed, once for concurrent calls. Resolves with whether the broker answered. */
  #restore(): Promise<boolean> {
    this.#redeclaring ??= this.#redeclare().finally(() => {
      this.#redeclaring = undefined;
    });
    return this.#redeclaring;
  }

  async #redeclare(): Promise<boolean> {
    const link = this.#consuming.current;
    if (link === undefined) return false;
    try {
      const { gone } = await survey(link, this.#known.declaredResources, this.#settings.requestTimeoutMs);
      for (const resource of gone) this.#known.forget(resource);
      if (!this.#declared.isEmpty) {
        const { problems, unverified } = await establish(link, this.#declared.topology, this.#settings, this.#known);
        for (const problem of problems) this.#signals.notice(problem);
        this.#noticeOnce(unverified);
      }
      this.#noticeRecreated(gone);
      return true;
    } catch (error) {
      if (!this.#isClosed && isMessagingError(error)) this.#signals.notice(error);
      // If the broker does not answer, the connection is dead; except if there was only no channel left.
      if (!isMessagingError(error, "overloaded")) link.cut();
      return false;
    }
  }

  #noticeRecreated(gone: readonly Resource[]): void {
    for (const error of recreatedNotices(gone.filter((resource) => this.#known.has(resource))))
      this.#signals.notice(error);
  }

  /** Restores bindings of subscriptions, and checks policies: AMQP reports changes of neither. */
  async #maintain(): Promise<void> {
    const link = this.#consuming.current;
    if (link === undefined || this.#declared.isEmpty) return;
    try {
      const { topology } = this.#declared;
      await bindSubscriptions(link, topology, this.#settings, this.#known);
      const { problems, notices } = await this.#checkPolicies(topology);
      this.#noticeOnce([...problems, ...notices]);
    } catch {
      // The connection is lost. Everything is declared again on the next one.
    }
  }

  /** Sends each notice once: its reason remains until an operator acts. */
  #noticeOnce(found: readonly MessagingError[]): void {
    for (const error of found) {
      if (this.#noticed.has(error.message)) continue;
      this.#noticed.add(error.message);
      this.#signals.notice(error);
    }
  }

  #setBlocked(reason: string): void {
    if (this.#isBlocked || this.#isClosed) return;
    this.#isBlocked = true;
    this.#signals.blocked(reason);
  }

  #setUnblocked(): void {
    if (!this.#isBlocked || this.#isClosed) return;
    this.#isBlocked = false;
    this.#signals.unblocked();
  }
}

function policiesUnknown(cause: unknown): MessagingError {
  const what = "the policies of RabbitMQ could not be checked: its management API returned something unexpected";
  return new MessagingError("unsupported", `${what}; see the cause`, { cause });
}

/** The resources that a receiver and its messages need. */
function neededResources(from: Source): readonly Resource[] {
  const work = from.kind === "dead-letters" ? from.of : from;
  const queues: Resource[] = [queueName(work), deadLettersOf(work), quarantineOf(work)].map(
    (name) => `queue ${name}` as const,
  );
  return work.kind === "subscription" ? [...queues, `exchange ${exchangeName(work.topic)}`] : queues;
}
