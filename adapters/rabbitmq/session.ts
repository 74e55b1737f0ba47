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
import type { Address, QueueAddress, Source, TopicAddress } from "../../core/address.ts";
import { describeAddress } from "../../core/address.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { incomingDeadLetter } from "./broker-dead-letter.ts";
import { withChannel } from "./channels.ts";
import { isUnreadable, NOT_FOUND, operationError, replyCode } from "./errors.ts";
import { KnownThings, missing } from "./known.ts";
import { type Link, SupervisedLink } from "./link.ts";
import { queueName } from "./names.ts";
import type { Settings } from "./options.ts";
import { Publisher } from "./publisher.ts";
import { QueueReceiver } from "./receiver.ts";
import { ReceiverLink } from "./receiver-link.ts";
import type { MessageReader } from "./receiving-channel.ts";
import { removeAll } from "./removal.ts";
import { establish } from "./topology.ts";
import { watchTopic } from "./watching.ts";
import { incoming } from "./wire.ts";

/**
 * Everything between one `open` and its `close`. Two connections: RabbitMQ stops reading from one that publishes while
 * an alarm is on, and acknowledgements must not wait behind that.
 */
export class Session {
  readonly #settings: Settings;
  readonly #signals: AdapterSignals;
  readonly #known: KnownThings;
  readonly #publisher: Publisher;
  readonly #publishing: SupervisedLink;
  readonly #consuming: SupervisedLink;
  readonly #receivers = new Set<QueueReceiver>();
  /** What was declared and is declared again after a loss; once each. */
  readonly #topologies = new Map<string, Topology>();
  #redeclaring: Promise<void> | undefined;
  #isUp = true;
  #isBlocked = false;
  #isClosed = false;

  constructor(settings: Settings, signals: AdapterSignals) {
    this.#settings = settings;
    this.#signals = signals;
    this.#known = new KnownThings(
      () => this.#consuming.current,
      () => this.#restore(),
      settings.requestTimeoutMs,
    );
    this.#publisher = new Publisher(this.#known, settings.requestTimeoutMs);
    const events = {
      restored: () => void this.#onRestored(),
      refused: (error: MessagingError) => this.#signals.notice(error),
    };
    this.#publishing = new SupervisedLink(settings, "publish", {
      ...events,
      lost: (cause) => {
        this.#setUnblocked();
        this.#onLost(cause);
      },
      prepare: (link) => {
        link.model.on("blocked", (reason) => this.#setBlocked(reason));
        link.model.on("unblocked", () => this.#setUnblocked());
        return this.#publisher.prepare(link);
      },
    });
    this.#consuming = new SupervisedLink(settings, "consume", {
      ...events,
      lost: (cause) => {
        this.#known.forgetAll();
        if (isUnreadable(cause.cause)) for (const receiver of this.#receivers) receiver.separate(cause);
        this.#onLost(cause);
      },
      prepare: () => Promise.resolve(),
    });
  }

  get connections(): { readonly publishing: ChannelModel | undefined; readonly consuming: ChannelModel | undefined } {
    return { publishing: this.#publishing.current?.model, consuming: this.#consuming.current?.model };
  }

  async open(): Promise<void> {
    const results = await Promise.allSettled([this.#publishing.open(), this.#consuming.open()]);
    for (const result of results) {
      if (result.status === "fulfilled") continue;
      await this.close();
      throw result.reason;
    }
  }

  async declare(topology: Topology): Promise<readonly MessagingError[]> {
    const problems = await establish(this.#linkOrThrow(), topology, this.#settings, this.#known);
    if (topology.mode === "create") this.#topologies.set(JSON.stringify(topology), topology);
    return problems;
  }

  async watch(of: QueueAddress | TopicAddress, watcher: Watcher<ConsumeMessage>): Promise<() => Promise<void>> {
    if (of.kind === "queue") {
      const why = "a queue on RabbitMQ shows its messages only to those who take them";
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
        ? (message, token) => incomingDeadLetter(from.of, message, token)
        : (message, token) => incoming(message, token);
    const receiver = new QueueReceiver(
      {
        requestTimeoutMs: this.#settings.requestTimeoutMs,
        notice: (error) => this.#signals.notice(error),
        restore: () => this.#restore(),
        deadLetters: (queue) => from.kind !== "dead-letters" && this.#known.isVerified(`queue ${queue}`),
        closed: (closed) => void this.#receivers.delete(closed),
      },
      new ReceiverLink(this.#settings, () => this.#consuming.current),
      { queue: queueName(from), ordered: options.ordered, read },
      options.window,
      sink,
    );
    this.#receivers.add(receiver);
    try {
      await receiver.open(this.#linkOrThrow());
    } catch (error) {
      this.#receivers.delete(receiver);
      throw error;
    }
    // Lost while it subscribed, and perhaps restored before that was seen.
    receiver.resume();
    return receiver;
  }

  async depth(of: Address): Promise<Depth> {
    if (of.kind === "topic") {
      await this.#known.check(`exchange ${of.name}`);
      // Nothing ever stays on an exchange.
      return { ready: 0, unsettled: undefined, exact: true };
    }
    const name = queueName(of);
    const what = `count the messages of ${describeAddress(of)}`;
    try {
      const { messageCount } = await withChannel(
        this.#linkOrThrow(),
        this.#settings.requestTimeoutMs,
        what,
        (channel) => channel.checkQueue(name),
      );
      return { ready: messageCount, unsettled: undefined, exact: false };
    } catch (error) {
      if (replyCode(error) === NOT_FOUND) throw missing(`queue ${name}`, error);
      throw operationError(error, what, "try again");
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.all([...this.#receivers].map((receiver) => receiver.close()));
    await Promise.all([this.#publishing.close(), this.#consuming.close()]);
  }

  #linkOrThrow(): Link {
    const link = this.#consuming.current;
    if (link !== undefined) return link;
    throw new MessagingError(
      "unreachable",
      `not connected to RabbitMQ at ${this.#settings.host}:${this.#settings.port} at the moment; connecting again`,
    );
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
    // Lost again meanwhile: the next restoration goes on from here.
    if (this.#isClosed || this.#isUp || this.#consuming.current !== link || this.#publishing.current === undefined)
      return;
    this.#isUp = true;
    for (const receiver of this.#receivers) receiver.resume();
    this.#signals.up();
  }

  /** Declares everything again where that is allowed, once for all who ask meanwhile. */
  #restore(): Promise<void> {
    this.#redeclaring ??= this.#redeclare().finally(() => {
      this.#redeclaring = undefined;
    });
    return this.#redeclaring;
  }

  async #redeclare(): Promise<void> {
    const link = this.#consuming.current;
    if (link === undefined) return;
    try {
      for (const topology of this.#topologies.values()) {
        const problems = await establish(link, topology, this.#settings, this.#known);
        for (const problem of problems) this.#signals.notice(problem);
      }
    } catch (error) {
      if (!this.#isClosed && isMessagingError(error)) this.#signals.notice(error);
      // Whatever could not be asked on a connection that stands shows that it does not.
      link.cut();
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
