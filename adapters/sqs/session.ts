import { GetQueueAttributesCommand, ListQueuesCommand, type Message } from "@aws-sdk/client-sqs";
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
  Topology,
  Watcher,
} from "../../core/adapter.ts";
import { addressesAmong, DeclaredTopology } from "../../core/adapter-support.ts";
import {
  type Address,
  addressName,
  describeAddress,
  type QueueAddress,
  type Source,
  type SubscriptionAddress,
  type TopicAddress,
  type WorkAddress,
} from "../../core/address.ts";
import { agreeing } from "../../core/counted.ts";
import { MessagingError } from "../../core/errors.ts";
import { type Clients, destroyClients, makeClients } from "./connection.ts";
import { decodeDeadLetter, Redriving } from "./dead-letters.ts";
import { asMessagingError, errorName, isAnswer } from "./errors.ts";
import { isSurplus } from "./filter-policy.ts";
import { isDirect } from "./message-codec.ts";
import { addressNameOf } from "./names.ts";
import type { Settings } from "./options.ts";
import { Publisher } from "./publisher.ts";
import { SqsQuarantineLog } from "./quarantine-log.ts";
import { Requeues, SqsReceiver } from "./receiver.ts";
import { pagesOf, Registry } from "./registry.ts";
import { removeAll } from "./topology/queues.ts";
import { reappears, SubscriptionWatch, TopologyKeeper } from "./topology/topics.ts";
import { watchTopic } from "./watching.ts";

const PROBE_MS = 500;
const CONGESTION_CHECK_MS = 30_000;
/**
 * At this many messages in flight, SQS may stop delivering from a queue, and long polls do not report it. For FIFO
 * queues AWS now documents 120,000 too; 20,000 was the limit before, and may still hold where it was not raised.
 */
const MAX_IN_FLIGHT = { standard: 120_000, fifo: 20_000 };

/** The state of an adapter between `open` and `close`. */
export class Session {
  readonly clients: Clients;
  readonly #settings: Settings;
  readonly #signals: AdapterSignals;
  readonly #registry: Registry;
  readonly #publisher: Publisher;
  readonly #keeper: TopologyKeeper;
  readonly #receivers = new Map<SqsReceiver, Source>();
  readonly #subscriptions: SubscriptionWatch;
  readonly #requeues = new Requeues();
  /** By queue URL. */
  readonly #redriving = new Map<string, Redriving>();
  /** By queue name: all consumers of a source in a process share one. */
  readonly #logs = new Map<string, SqsQuarantineLog>();
  /** The functions that end watches. */
  readonly #watches = new Set<() => Promise<void>>();
  /** Everything that was created without a problem; it may be recreated. */
  readonly #created = new DeclaredTopology();
  /** Checks for missing topics that messages were sent to, by name. */
  readonly #topicChecks = new Map<string, Promise<MessagingError | undefined>>();
  #mode: Topology["mode"] = "none";
  #declaring: Promise<MessagingError | undefined> | undefined;
  #down = false;
  #closed = false;
  #probe: NodeJS.Timeout | undefined;

  constructor(settings: Settings, signals: AdapterSignals) {
    this.#settings = settings;
    this.#signals = signals;
    this.clients = makeClients(settings);
    this.#registry = new Registry(this.clients, settings.namePrefix);
    this.#publisher = new Publisher(this.clients, this.#registry, {
      unanswered: (cause) => this.#unanswered(cause),
      missing: (address, wasKnown) => this.#missing(address, wasKnown),
    });
    this.#keeper = new TopologyKeeper(this.clients, this.#registry, settings, (error) => this.#signals.notice(error));
    this.#subscriptions = new SubscriptionWatch({
      consumed: () =>
        this.#down ? [] : [...this.#receivers.values()].flatMap((from) => (from.kind === "subscription" ? from : [])),
      exists: (address) => this.#keeper.isSubscribed(address),
      restore: (address) => this.#resubscribe(address),
      disconnected: (address, cause) => {
        const name = describeAddress(address);
        for (const [receiver, from] of this.#receivers)
          if (describeAddress(from) === name) receiver.disconnected(cause);
      },
      refused: (address, cause) => {
        // A process in mode `none` may have no permission on SNS at all.
        if (this.#mode !== "none") this.#signals.notice(mayNotCheck(address, cause));
      },
    });
  }

  async open(): Promise<void> {
    try {
      await this.#ping();
    } catch (error) {
      await this.close();
      throw asMessagingError("connecting to SQS", error);
    }
    this.#subscriptions.start();
  }

  /** Resolves for every answer, except one that refuses the credentials. */
  async #ping(): Promise<void> {
    try {
      await this.clients.control.sqs.send(new ListQueuesCommand({ MaxResults: 1 }));
    } catch (error) {
      const { code } = asMessagingError("connecting to SQS", error);
      const denied = errorName(error).startsWith("AccessDenied");
      // A role need not have the permission to list.
      if (!isAnswer(error) || (code === "unauthorized" && !denied)) throw error;
    }
  }

  #unanswered(cause: unknown): void {
    if (this.#down || this.#closed) return;
    this.#down = true;
    this.#signals.down(asMessagingError("SQS cannot be reached; reconnecting", cause));
    this.#probeLater();
  }

  #probeLater(): void {
    if (this.#closed) return;
    this.#probe = setTimeout(() => {
      this.#ping().then(
        () => this.#up(),
        () => this.#probeLater(),
      );
    }, PROBE_MS);
  }

  #up(): void {
    if (this.#closed) return;
    this.#down = false;
    this.#signals.up();
  }

  async declare(topology: Topology): Promise<readonly MessagingError[]> {
    this.#mode = topology.mode;
    const problems = await this.#keeper.declare(topology);
    if (topology.mode === "create" && problems.length === 0) this.#created.add(topology);
    return problems;
  }

  async watch(of: QueueAddress | TopicAddress, watcher: Watcher<Message>): Promise<() => Promise<void>> {
    if (of.kind === "queue") {
      const why = "SQS shows the messages of a queue only to its consumers";
      throw new MessagingError("unsupported", `${describeAddress(of)} cannot be watched: ${why}`);
    }
    const resource = await this.#registry.find(of);
    const end = await watchTopic(this.clients, {
      topic: of.name,
      resource,
      prefix: this.#settings.namePrefix,
      watcher,
    });
    this.#watches.add(end);
    return () => {
      this.#watches.delete(end);
      return end();
    };
  }

  remove(topology: Topology): Promise<void> {
    return removeAll(this.clients, this.#registry, topology);
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    if (this.#down) {
      const cause = new MessagingError("unreachable", "SQS cannot be reached");
      for (const index of batch.keys()) report(index, { status: "unknown", cause, unsent: true });
      return;
    }
    this.#publisher.send(to, batch, report);
  }

  async receive(from: Source, options: ReceiveOptions, sink: DeliverySink<Message>): Promise<Receiver> {
    const { locator: url, fifo } = await this.#registry.find(from);
    const { leaseMs, waitSeconds, maxPolls } = this.#settings;
    const filter = options.subscription?.filter;
    const receiver: SqsReceiver = new SqsReceiver(
      {
        where: describeAddress(from),
        url,
        polling: this.clients.polling,
        client: this.clients.sqs,
        requeues: this.#requeues,
        redriving: this.#redrivingOf(from, url),
        leaseMs,
        waitSeconds,
        maxPolls,
        prefetch: options.prefetch,
        ...(from.kind === "dead-letters" ? { decode: (message: Message) => decodeDeadLetter(from.of, message) } : {}),
        ...(filter === undefined ? {} : { wanted: wantedBy(filter) }),
        missing: () => this.#missing(from),
        unanswered: (cause) => this.#unanswered(cause),
        congested: this.#quotaCheck(from, url, fifo),
        closed: () => this.#receivers.delete(receiver),
      },
      sink,
    );
    this.#receivers.set(receiver, from);
    return receiver;
  }

  #redrivingOf(from: Source, url: string): Redriving | undefined {
    if (from.kind === "dead-letters") return undefined;
    const deadLetters = this.#registry.name({ kind: "dead-letters", of: from });
    const parts = { where: describeAddress(from), url, client: this.clients.control.sqs, deadLetters };
    const redriving = this.#redriving.get(url) ?? new Redriving(parts);
    this.#redriving.set(url, redriving);
    return redriving;
  }

  quarantine(of: WorkAddress): QuarantineLog {
    const address: Address = { kind: "quarantine", of };
    const name = this.#registry.name(address);
    const log =
      this.#logs.get(name) ??
      new SqsQuarantineLog({
        where: describeAddress(address),
        clients: this.clients,
        requestTimeoutMs: this.#settings.requestTimeoutMs,
        find: async () => (await this.#registry.find(address)).locator,
        missing: () => {
          this.#registry.forget(address);
          return this.#missing(address, false);
        },
        unanswered: (cause) => this.#unanswered(cause),
      });
    this.#logs.set(name, log);
    return log;
  }

  /**
   * A resource was deleted during use: recreates it if allowed, and calls share that. Resolves with why it does not
   * exist; undefined if it does. Never rejects.
   */
  async #missing(address: Address, wasKnown = true): Promise<MessagingError | undefined> {
    const topology = restorable(this.#created.topology);
    const missing = this.#registry.notFound(address);
    if (this.#closed) return missing;
    if (declares(topology, address)) {
      const problem = await this.#declareOnce(() => this.#restore(topology, address));
      // The problem may be of another resource.
      return this.#registry.known(address) === undefined ? problem : undefined;
    }
    if (!declares(this.#created.topology, address)) {
      const problem = wasKnown ? await this.#lookUp(address) : missing;
      return problem?.code === "conflict" ? problem : missing;
    }
    // A topic that was reported already needs no second look: each publish looks for it.
    return wasKnown || this.#topicChecks.has(describeAddress(address)) ? this.#isBack(address) : missing;
  }

  #declareOnce(declare: () => Promise<MessagingError | undefined>): Promise<MessagingError | undefined> {
    this.#declaring ??= declare().finally(() => {
      this.#declaring = undefined;
    });
    return this.#declaring;
  }

  async #restore(topology: Topology, address: Address): Promise<MessagingError | undefined> {
    const missing = await this.#reappears(address);
    if (missing?.code !== "not-found" || this.#closed) return missing;
    const gone = `${describeAddress(address)} was deleted; recreating it`;
    const others =
      "with the subscriptions of this process. Consumers of other processes declare theirs within about a minute; events published until then do not reach them";
    this.#signals.notice(new MessagingError("not-found", address.kind === "topic" ? `${gone}, ${others}` : gone));
    return this.#declareAgain(topology);
  }

  /** Waits for a topic that this process only publishes to. */
  #isBack(topic: Address): Promise<MessagingError | undefined> {
    const name = describeAddress(topic);
    const check = this.#topicChecks.get(name) ?? this.#checkTopic(topic).finally(() => this.#topicChecks.delete(name));
    this.#topicChecks.set(name, check);
    return check;
  }

  async #checkTopic(topic: Address): Promise<MessagingError | undefined> {
    const missing = await this.#reappears(topic);
    if (missing?.code !== "not-found" || this.#closed) return missing;
    const gone = `${describeAddress(topic)} was deleted, with all its subscriptions`;
    const why =
      "SNS would confirm events to a new topic, and no subscription would get them. So this process does not recreate it, and events are refused";
    const next = "its consumers declare it again within about a minute; if none runs, start one";
    const error = new MessagingError("not-found", `${gone}. ${why}; ${next}`);
    this.#signals.notice(error);
    return error;
  }

  /**
   * Waits whether it exists after all. Resolves with why it does not; undefined if it does. AWS may report a queue as missing for a moment, and so does a server that starts
   * before it has loaded its queues. A queue that is created in that moment would be replaced, with all its messages.
   */
  async #reappears(address: Address): Promise<MessagingError | undefined> {
    let missing: MessagingError | undefined = this.#registry.notFound(address);
    const check = async (): Promise<boolean> => {
      missing = await this.#lookUp(address);
      return missing === undefined || missing.code === "conflict";
    };
    await reappears(check, () => this.#closed);
    return missing;
  }

  /** Resolves with why it is not found; undefined if it is. */
  async #lookUp(address: Address): Promise<MessagingError | undefined> {
    this.#registry.forget(address);
    try {
      await this.#registry.find(address);
      return undefined;
    } catch (error) {
      return asMessagingError(`looking for ${describeAddress(address)}`, error);
    }
  }

  async #resubscribe(address: SubscriptionAddress): Promise<void> {
    const topology = restorable(this.#created.topology);
    if (!declares(topology, address)) return;
    const gone = `${describeAddress(address)} was deleted on SNS; recreating it`;
    const lost = "events published meanwhile did not reach it; find out who deleted it, or its topic";
    this.#signals.notice(new MessagingError("not-found", `${gone}: ${lost}`));
    await this.#declareOnce(() => this.#declareAgain(topology));
  }

  /** Resolves with why not everything exists; undefined if it does. */
  async #declareAgain(topology: Topology): Promise<MessagingError | undefined> {
    try {
      const problems = await this.#keeper.declare(topology);
      for (const problem of problems) if (!this.#closed) this.#signals.notice(problem);
      return problems[0];
    } catch (error) {
      this.#unanswered(error);
      return asMessagingError("declaring again what is missing", error);
    }
  }

  /** Checks the quota from time to time, and returns the last result in between. */
  #quotaCheck(from: Address, url: string, fifo: boolean): () => Promise<MessagingError | undefined> {
    let next = performance.now() + CONGESTION_CHECK_MS;
    let last: MessagingError | undefined;
    return async () => {
      if (performance.now() < next) return last;
      next = performance.now() + CONGESTION_CHECK_MS;
      last = await this.#atQuota(from, url, fifo).catch(() => undefined);
      return last;
    };
  }

  async #atQuota(from: Address, url: string, fifo: boolean): Promise<MessagingError | undefined> {
    const { ready, unsettled = 0 } = await this.#depthOf(from, url);
    if (ready === 0 || unsettled < MAX_IN_FLIGHT[fifo ? "fifo" : "standard"]) return undefined;
    const quota = `SQS delivers no more at its quota${fifo ? ", and nothing of a message group in flight" : ""}`;
    return new MessagingError(
      "overloaded",
      `${describeAddress(from)} ${agreeing(from, "has", "have")} ${unsettled} messages in flight, and polls return none: ${quota}; settle some, or use fewer consumers with a smaller prefetch`,
    );
  }

  /** A queue's URL or a topic's ARN: both contain the account. */
  async identities(of: Address): Promise<readonly unknown[]> {
    return [(await this.#registry.find(of)).locator];
  }

  async depth(of: Address): Promise<Depth> {
    const { kind, locator } = await this.#registry.find(of);
    if (kind === "topic") return { ready: 0, unsettled: 0, exact: true };
    try {
      return await this.#depthOf(of, locator);
    } catch (error) {
      this.#registry.forget(of);
      throw asMessagingError(`reading the depth of ${describeAddress(of)}`, error);
    }
  }

  async list(): Promise<readonly (WorkAddress | TopicAddress)[]> {
    const { namePrefix } = this.#settings;
    const names: string[] = [];
    try {
      const options = { MaxResults: 1_000, ...(namePrefix === "" ? {} : { QueueNamePrefix: namePrefix }) };
      const { sqs } = this.clients.control;
      const pages = pagesOf("queues", (token) => sqs.send(new ListQueuesCommand({ ...options, ...token })));
      for await (const { QueueUrls = [] } of pages) {
        for (const url of QueueUrls) {
          const name = addressNameOf(url.slice(url.lastIndexOf("/") + 1), namePrefix);
          if (name !== undefined) names.push(name);
        }
      }
    } catch (error) {
      throw asMessagingError("listing the queues", error);
    }
    return addressesAmong(names);
  }

  async #depthOf(of: Address, url: string): Promise<Depth> {
    const { Attributes = {} } = await this.clients.control.sqs.send(
      new GetQueueAttributesCommand({
        QueueUrl: url,
        AttributeNames: ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
      }),
    );
    const { ApproximateNumberOfMessages: ready, ApproximateNumberOfMessagesNotVisible: unsettled } = Attributes;
    if (ready === undefined)
      throw new MessagingError("not-found", `${describeAddress(of)} ${agreeing(of, "does", "do")} not exist on SQS`);
    return { ready: Number(ready), unsettled: Number(unsettled ?? 0), exact: false };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#probe);
    this.#subscriptions.stop();
    await Promise.all([...this.#receivers.keys()].map((receiver) => receiver.close()));
    await Promise.all([...this.#logs.values()].map((log) => log.close()));
    await Promise.allSettled([...this.#watches].map((end) => end()));
    destroyClients(this.clients);
  }
}

/** Applies a filter. Messages that were sent to the subscription itself are copies and always pass. */
function wantedBy(filter: string): (message: IncomingMessage<Message>) => boolean {
  return ({ routingKey, native }) => !isSurplus(filter, routingKey) || isDirect(native);
}

/**
 * The part of a topology that may be recreated during use. A topic is included only for a subscription of this process:
 * SNS confirms events to a topic without subscriptions, and they are lost.
 */
function restorable(topology: Topology): Topology {
  const subscribed = new Set(topology.subscriptions.map(({ address }) => address.topic));
  return { ...topology, topics: topology.topics.filter(({ address }) => subscribed.has(address.name)) };
}

function mayNotCheck(address: SubscriptionAddress, cause: MessagingError): MessagingError {
  const what = `this process may not check whether SNS still has ${describeAddress(address)}: if it is deleted, no event arrives and no error is reported`;
  return new MessagingError("unauthorized", `${what}; allow sns:ListTopics and sns:ListSubscriptionsByTopic`, {
    cause,
  });
}

function declares({ queues, topics, subscriptions }: Topology, address: Address): boolean {
  const of = "of" in address ? address.of : address;
  const name = addressName(of);
  return [...queues, ...topics, ...subscriptions].some(
    (declared) => declared.address.kind === of.kind && addressName(declared.address) === name,
  );
}
