import type { ConfirmChannel, Message, Options } from "amqplib";
import type { OutgoingMessage, SendReport, SendResult } from "../../core/adapter.ts";
import { type Address, describeAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { answered, type Connection, guardClosing } from "./connection.ts";
import { type DeclaredResources, missing, type Resource } from "./declared-resources.ts";
import { delayedRoute, MAX_DELAY_MS, queueTarget, topicTarget } from "./delay-levels.ts";
import { ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, replyCode, replyText } from "./errors.ts";
import { asBuffer, headerFrameBytes, MAX_HEADER_FRAME_BYTES, publishOptions, TWIN_HEADER } from "./message-codec.ts";
import { exchangeName, queueName } from "./names.ts";
import type { Settings } from "./options.ts";
import type { Redactor } from "./redactor.ts";

/** A message without an answer of the broker so far. */
interface Pending {
  readonly to: Address;
  readonly path: PublishPath;
  /** The exchange and wait queue through which a delayed message enters. */
  readonly level: string | undefined;
  /** Bytes of the body. */
  readonly size: number;
  readonly index: number;
  readonly report: SendReport;
  readonly channel: ConfirmChannel;
  /** When it was written, in milliseconds of the monotonic clock. */
  readonly at: number;
  returned: boolean;
}

type PublisherSettings = Pick<Settings, "requestTimeoutMs" | "username" | "redactor">;

/** The destination of a batch. */
interface Route {
  readonly to: Address;
  readonly isTopic: boolean;
  readonly resource: Resource;
  readonly name: string;
}

const CONFIRMED: SendResult = Object.freeze({ status: "confirmed" });
const NO_PROBLEMS: ReadonlyMap<Resource, MessagingError> = new Map();
/** Safety limits beyond those of the engine, for messages that the socket does not accept. */
const MAX_PENDING = 65_536;
const MAX_PENDING_BYTES = 64 * 1024 * 1024;

/** A confirm is overdue after this many request timeouts. */
const OVERDUE_TIMEOUTS = 2;
/** How long other messages on a channel with an overdue confirm may still be confirmed. */
const RETIRE_MS = 5_000;

/** The parts of amqplib's connection that show whether the server reads. They are not in amqplib's types. */
interface Written {
  readonly blocked?: boolean;
  readonly stream?: { readonly writableLength: number };
}

/** Publishes on one confirm channel, reopened whenever the server closes it, and reports the result of each message. */
export class Publisher {
  readonly #known: DeclaredResources;
  readonly #settings: PublisherSettings;
  readonly #delayed: () => void;
  readonly #notice: (error: MessagingError) => void;
  readonly #refusals = new Refusals();
  /** By message id; by the number of its twin header, if its id was pending already. */
  readonly #pending = new Map<string | number, Pending>();
  /** Batches that wait until their destination is checked, in order. */
  readonly #waiting = new Map<Resource, Promise<void>>();
  #channel: ConfirmChannel | undefined;
  #pendingBytes = 0;
  /** The largest frame, in bytes. */
  #frameMax = MAX_HEADER_FRAME_BYTES;
  /** The exchanges for which this channel had an answer. */
  readonly #answered = new Set<string>();
  /** The refusal that closed the channel, if the channel had no answer for that exchange before. */
  #refused: RefusedPath | undefined;
  #twins = 0;
  #link: Connection | undefined;
  #overdueCheck: NodeJS.Timeout | undefined;
  /** When the server last did not read what was written, in milliseconds of the monotonic clock. */
  #unreadAt = 0;
  /** When a message was returned that is not recognised: one that was pending then is not stored. */
  readonly #doubtful = new WeakMap<ConfirmChannel, number>();
  /** Channels that are being closed because of an overdue confirm. */
  readonly #retired = new WeakSet<ConfirmChannel>();

  /** `delayed` is called for each delayed message, `notice` for overdue confirms. */
  constructor(
    known: DeclaredResources,
    settings: PublisherSettings,
    delayed: () => void,
    notice: (error: MessagingError) => void,
  ) {
    this.#known = known;
    this.#settings = settings;
    this.#delayed = delayed;
    this.#notice = notice;
  }

  /** Opens the channel on a new connection. */
  prepare(link: Connection): Promise<void> {
    this.#refusals.clear();
    this.#link = link;
    return this.#open(link);
  }

  /** Opens a channel and publishes on it. It replaces `replaced`, unless that has ended meanwhile. */
  async #open(link: Connection, replaced?: ConfirmChannel): Promise<void> {
    const channel = await answered(
      link,
      this.#settings.requestTimeoutMs,
      "open a channel for publishing",
      link.model.createConfirmChannel(),
    );
    if (replaced !== undefined && this.#channel !== replaced) {
      channel.close().catch(() => {});
      return;
    }
    guardClosing(link, this.#settings.requestTimeoutMs, channel);
    channel.on("return", (message) => this.#onReturn(channel, message));
    // Emitted before `close`, and so before the messages on the channel get their results.
    channel.on("error", (error) => this.#onRefused(channel, error));
    channel.on("close", () => {
      if (this.#channel !== channel) return;
      this.#channel = undefined;
      // Fails at once if the connection is lost; the next connection prepares a new channel.
      this.#open(link).catch(() => link.cut());
    });
    this.#answered.clear();
    this.#refused = undefined;
    const { frameMax = MAX_HEADER_FRAME_BYTES } = link.model.connection as unknown as { readonly frameMax?: number };
    this.#frameMax = frameMax;
    this.#channel = channel;
  }

  /** Checks periodically for overdue confirms while any are pending. */
  #watchConfirms(): void {
    if (this.#overdueCheck !== undefined) return;
    this.#overdueCheck = setTimeout(() => {
      this.#overdueCheck = undefined;
      this.#retireIfOverdue();
      if (this.#pending.size > 0) this.#watchConfirms();
    }, this.#settings.requestTimeoutMs / 2);
    this.#overdueCheck.unref();
  }

  /**
   * If a queue is not available, confirms may never come. The messages become `unknown`, so that the engine can end
   * them or send them again.
   */
  #retireIfOverdue(): void {
    const [link, channel] = [this.#link, this.#channel];
    if (link === undefined || channel === undefined) return;
    const { blocked, stream } = link.model.connection as unknown as Written;
    const now = performance.now();
    // During an alarm, or on a slow network, the server has nothing to confirm yet.
    if (blocked === true || (stream?.writableLength ?? 0) > 0) this.#unreadAt = now;
    const [oldest] = this.#pending.values();
    if (oldest?.channel !== channel) return;
    const pendingMs = now - Math.max(oldest.at, this.#unreadAt);
    if (pendingMs < OVERDUE_TIMEOUTS * this.#settings.requestTimeoutMs) return;
    this.#notice(overdue(oldest.to, pendingMs));
    void this.#retire(link, channel);
  }

  async #retire(link: Connection, channel: ConfirmChannel): Promise<void> {
    this.#retired.add(channel);
    try {
      await this.#open(link, channel);
    } catch {
      link.cut();
      return;
    }
    const { requestTimeoutMs } = this.#settings;
    setTimeout(
      () => {
        // Closing fails if the channel is closed already.
        answered(link, requestTimeoutMs, "close a channel for publishing", channel.close()).catch(() => {});
      },
      Math.min(RETIRE_MS, requestTimeoutMs),
    ).unref();
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    const isTopic = to.kind === "topic";
    const name = isTopic ? exchangeName(to.name) : queueName(to);
    const route: Route = { to, isTopic, name, resource: isTopic ? `exchange ${name}` : `queue ${name}` };
    const waiting = this.#waiting.get(route.resource);
    const unknown = this.#unknownResources(route, batch);
    if (waiting === undefined && unknown.length === 0) {
      this.#publishAll(route, batch, report, NO_PROBLEMS);
      return;
    }
    const turn = (waiting ?? Promise.resolve())
      .then(() => this.#check(unknown))
      .then((problems) => this.#publishAll(route, batch, report, problems))
      .finally(() => {
        if (this.#waiting.get(route.resource) === turn) this.#waiting.delete(route.resource);
      });
    this.#waiting.set(route.resource, turn);
  }

  /** Resources that the batch needs and that are not known to exist. The default exchange always exists. */
  #unknownResources(route: Route, batch: readonly OutgoingMessage[]): Resource[] {
    const unknown: Resource[] = [];
    if (route.isTopic && !this.#known.has(route.resource)) unknown.push(route.resource);
    for (const { delayMs } of batch) {
      if (delayMs <= 0 || delayMs > MAX_DELAY_MS) continue;
      const level: Resource = `exchange ${delayedRoute(delayMs, "").exchange}`;
      if (!this.#known.has(level) && !unknown.includes(level)) unknown.push(level);
      if (!this.#known.has(route.resource) && !unknown.includes(route.resource)) unknown.push(route.resource);
    }
    return unknown;
  }

  async #check(resources: readonly Resource[]): Promise<ReadonlyMap<Resource, MessagingError>> {
    const problems = new Map<Resource, MessagingError>();
    const check = (resource: Resource): Promise<void> =>
      this.#known.check(resource).catch((error: MessagingError) => void problems.set(resource, error));
    await Promise.all(resources.map(check));
    return problems;
  }

  #publishAll(
    route: Route,
    batch: readonly OutgoingMessage[],
    report: SendReport,
    problems: ReadonlyMap<Resource, MessagingError>,
  ): void {
    for (let index = 0; index < batch.length; index++) {
      const message = batch[index];
      if (message !== undefined) this.#publish(route, message, index, report, problems);
    }
  }

  #publish(
    route: Route,
    message: OutgoingMessage,
    index: number,
    report: SendReport,
    problems: ReadonlyMap<Resource, MessagingError>,
  ): void {
    const channel = this.#channel;
    if (channel === undefined) {
      const cause = new MessagingError("unreachable", "not connected to RabbitMQ");
      report(index, { status: "unknown", cause, unsent: true });
      return;
    }
    const { to, isTopic, name } = route;
    if (message.delayMs > MAX_DELAY_MS) {
      report(index, { status: "rejected", error: tooLate(to, message.delayMs) });
      return;
    }
    const routingKey = message.routingKey ?? "";
    const path =
      message.delayMs > 0
        ? delayedRoute(message.delayMs, isTopic ? topicTarget(name, routingKey) : queueTarget(name))
        : isTopic
          ? { exchange: name, routingKey }
          : { exchange: "", routingKey: name };
    const problem =
      this.#refusals.error(path, message.body.length) ??
      (problems.size === 0
        ? undefined
        : (problems.get(`exchange ${path.exchange}`) ??
          (message.delayMs > 0 ? problems.get(route.resource) : undefined)));
    if (problem !== undefined) {
      report(index, asResult(problem));
      return;
    }
    if (this.#pending.size >= MAX_PENDING || (this.#pendingBytes >= MAX_PENDING_BYTES && this.#pending.size > 0)) {
      const cause = new MessagingError("overloaded", `RabbitMQ has not confirmed ${this.#pending.size} messages yet`);
      report(index, { status: "unknown", cause, unsent: true });
      return;
    }
    const level = message.delayMs > 0 ? path.exchange : undefined;
    if (level !== undefined) this.#delayed();
    const size = message.body.length;
    const at = performance.now();
    this.#write(message, isTopic, { to, path, level, size, index, report, channel, at, returned: false });
  }

  #write(message: OutgoingMessage, isTopic: boolean, pending: Pending): void {
    const { channel } = pending;
    let handle: string | number = message.id;
    try {
      const options = publishOptions(message, isTopic, this.#settings.username);
      const tooLarge = this.#overFrame(pending.to, options);
      if (tooLarge !== undefined) {
        pending.report(pending.index, { status: "rejected", error: tooLarge });
        return;
      }
      if (this.#pending.has(handle)) {
        // It is sent again before the first was answered: the header tells which of the two was returned.
        handle = ++this.#twins;
        options.headers = { ...options.headers, [TWIN_HEADER]: String(handle) };
      }
      const { exchange, routingKey } = pending.path;
      channel.publish(exchange, routingKey, asBuffer(message.body), options, (error: unknown) => {
        this.#pending.delete(handle);
        this.#pendingBytes -= pending.size;
        if (this.#channel === channel) this.#answered.add(exchange);
        if (pending.returned) this.#reportReturned(pending);
        else pending.report(pending.index, this.#resultOf(pending, error));
      });
      this.#pending.set(handle, pending);
      this.#pendingBytes += pending.size;
      this.#watchConfirms();
    } catch (error) {
      pending.report(pending.index, unsendable(pending.to, error));
    }
  }

  #resultOf(pending: Pending, error: unknown): SendResult {
    if (error === null || error === undefined) {
      const isDoubtful = pending.at <= (this.#doubtful.get(pending.channel) ?? 0);
      return isDoubtful ? { status: "unknown", cause: returnedUnknown(pending.to) } : CONFIRMED;
    }
    const refusal = this.#refusals.sizeError(pending.size) ?? this.#refusedWith(pending);
    if (refusal !== undefined) return { status: "rejected", error: refusal };
    if (this.#retired.has(pending.channel)) {
      return { status: "unknown", cause: overdue(pending.to, performance.now() - pending.at) };
    }
    // A nack is unknown too: a quorum queue nacks while it has no leader, and of a topic's queues some may have stored
    // the message while another was full.
    return { status: "unknown", cause: this.#settings.redactor.error(error) };
  }

  /** The message was unroutable. A declared queue is recreated, and the engine sends the message again. */
  #reportReturned({ to, level, index, report }: Pending): void {
    if (level !== undefined) {
      // The entry level of its delay has no wait queue; the destination does not matter.
      const wait: Resource = `queue ${level}`;
      this.#known.repair(wait).then(
        () => report(index, { status: "unknown", cause: missing(wait) }),
        (error: MessagingError) => report(index, asResult(error)),
      );
      return;
    }
    if (to.kind === "topic") {
      report(index, { status: "rejected", error: unroutable(to) });
      return;
    }
    const resource: Resource = `queue ${queueName(to)}`;
    if (!this.#known.isDeclared(resource)) {
      report(index, { status: "rejected", error: missing(resource) });
      return;
    }
    this.#known.check(resource).then(
      () => report(index, { status: "unknown", cause: missing(resource) }),
      (error: MessagingError) => report(index, asResult(error)),
    );
  }

  #onReturn(channel: ConfirmChannel, message: Message): void {
    const { messageId, headers } = message.properties;
    const twin: unknown = headers?.[TWIN_HEADER];
    const pending = this.#pending.get(twin === undefined ? messageId : Number(twin));
    if (pending?.channel !== channel) {
      this.#doubtful.set(channel, performance.now());
      return;
    }
    pending.returned = true;
    if (pending.to.kind !== "topic" && pending.level === undefined)
      this.#known.forget(`queue ${queueName(pending.to)}`);
  }

  #onRefused(channel: ConfirmChannel, error: unknown): void {
    const { missing: exchange, refused } = this.#refusals.learn(error, this.#settings.redactor);
    if (exchange !== undefined) this.#known.forget(`exchange ${exchange}`);
    // If the channel had an answer before, the permission may have been revoked between two messages.
    if (refused === undefined || this.#channel !== channel) return;
    if (!this.#answered.has(refused.exchange)) this.#refused = refused;
  }

  /** RabbitMQ checks permissions first: if it confirmed nothing for the exchange, it stored none of its messages. */
  #refusedWith({ path }: Pending): MessagingError | undefined {
    const refused = this.#refused;
    if (refused === undefined || refused.exchange !== path.exchange) return undefined;
    const isOther = refused.routingKey !== undefined && refused.routingKey !== path.routingKey;
    return isOther ? undefined : refused.error;
  }

  /** A header frame cannot be split: the server would close the connection, with all other messages on it. */
  #overFrame(to: Address, options: Options.Publish): MessagingError | undefined {
    if (this.#frameMax >= MAX_HEADER_FRAME_BYTES) return undefined;
    const bytes = headerFrameBytes(options);
    if (bytes <= this.#frameMax) return undefined;
    return new MessagingError(
      "too-large",
      `the headers of a message for ${describeAddress(to)} make a frame of ${bytes} bytes, and this RabbitMQ accepts ${this.#frameMax} (frame_max); send fewer or shorter headers, or raise it`,
    );
  }
}

function tooLate(to: Address, delayMs: number): MessagingError {
  const where = describeAddress(to);
  return new MessagingError(
    "invalid",
    `a delay of ${delayMs} ms for ${where} is longer than ${MAX_DELAY_MS} ms; send it in several hops`,
  );
}

/** The server has the message but does not confirm it. */
function overdue(to: Address, pendingMs: number): MessagingError {
  return new MessagingError(
    "timeout",
    `RabbitMQ has not confirmed a message for ${describeAddress(to)} within ${Math.round(pendingMs / 1_000)} s; all unconfirmed messages are unknown and are sent again until their deadlines. Check that its queues have a leader and accept messages`,
  );
}

/** The server returned a message that is not recognised, and it may be this one. */
function returnedUnknown(to: Address): MessagingError {
  return new MessagingError(
    "unreachable",
    `RabbitMQ returned a message that it does not name, while one for ${describeAddress(to)} was unconfirmed; it is sent again`,
  );
}

/** The result of a message whose check failed. */
function asResult(problem: MessagingError): SendResult {
  const isFinal = problem.code !== "unreachable" && problem.code !== "timeout";
  return isFinal ? { status: "rejected", error: problem } : { status: "unknown", cause: problem };
}

function unroutable(to: Address): MessagingError {
  return new MessagingError(
    "unroutable",
    `no subscription of ${describeAddress(to)} matches this event; declare a subscription with a matching filter, or allow it with whenUnroutable: "discard"`,
  );
}

/** The result of an error that amqplib throws before it writes anything. */
function unsendable(to: Address, error: unknown): SendResult {
  if (error instanceof RangeError) {
    const what = `the headers of a message for ${describeAddress(to)} exceed AMQP's limits`;
    return {
      status: "rejected",
      error: new MessagingError("too-large", `${what} (${error.message}); send fewer or shorter headers`, {
        cause: error,
      }),
    };
  }
  if (error instanceof TypeError) {
    const what = `AMQP cannot carry the properties of a message for ${describeAddress(to)}`;
    const next = "id, content type and routing key have at most 255 bytes each";
    return { status: "rejected", error: new MessagingError("invalid", `${what}: ${next}`, { cause: error }) };
  }
  return { status: "unknown", cause: error };
}

/** How long a refused permission counts as still missing, in milliseconds. */
const REMEMBER_MS = 5_000;

/** The exchange and routing key of a publish. */
interface PublishPath {
  readonly exchange: string;
  readonly routingKey: string;
}

/** A missing permission. */
export interface RefusedPath {
  readonly exchange: string;
  /** The one routing key that is refused, for a topic permission. */
  readonly routingKey: string | undefined;
  readonly error: MessagingError;
}

/** What the error of a closed channel says. */
interface Learned {
  /** The exchange that does not exist. */
  readonly missing?: string | undefined;
  readonly refused?: RefusedPath;
}

/**
 * Remembers why the server closed a publishing channel, so that the same message does not close the next channel under
 * all other messages.
 */
class Refusals {
  /** By exchange, or by exchange and routing key for topic permissions. */
  readonly #paths = new Map<string, { readonly error: MessagingError; readonly until: number }>();
  #maxBytes = Number.POSITIVE_INFINITY;

  /** Learns from amqplib's error of a closed channel. It reads the whole text, and keeps it redacted. */
  learn(error: unknown, redactor: Redactor): Learned {
    const text = replyText(error);
    const exchange = /exchange '([^']*)'/.exec(text)?.[1];
    switch (replyCode(error)) {
      case NOT_FOUND:
        return { missing: exchange };
      case ACCESS_REFUSED: {
        if (exchange === undefined) return {};
        const shown = redactor.error(error);
        const refusal = new MessagingError(
          "unauthorized",
          `RabbitMQ refused a publish: ${replyText(shown)}; grant the user the write permission there`,
          { cause: shown },
        );
        const name = exchange === "amq.default" ? "" : exchange;
        const routingKey = /access to topic '(.*)' in exchange/s.exec(text)?.[1];
        const path = routingKey === undefined ? name : topicPath(name, routingKey);
        this.#paths.set(path, { error: refusal, until: performance.now() + REMEMBER_MS });
        return { refused: { exchange: name, routingKey, error: refusal } };
      }
      case PRECONDITION_FAILED: {
        const max = /size \d+ is larger than (?:configured )?max size (\d+)/.exec(text)?.[1];
        if (max !== undefined) this.#maxBytes = Number(max);
        return {};
      }
      default:
        return {};
    }
  }

  /** Returns why a message of this size must not be published there now; undefined if no reason is known. */
  error({ exchange, routingKey }: PublishPath, bytes: number): MessagingError | undefined {
    if (bytes > this.#maxBytes) return this.sizeError(bytes);
    if (this.#paths.size === 0) return undefined;
    return this.#pathError(exchange) ?? this.#pathError(topicPath(exchange, routingKey));
  }

  #pathError(path: string): MessagingError | undefined {
    const refusal = this.#paths.get(path);
    if (refusal === undefined) return undefined;
    if (performance.now() < refusal.until) return refusal.error;
    this.#paths.delete(path);
    return undefined;
  }

  /** Returns the error if a message of this size is too large. */
  sizeError(bytes: number): MessagingError | undefined {
    if (bytes <= this.#maxBytes) return undefined;
    return new MessagingError(
      "too-large",
      `this RabbitMQ accepts at most ${this.#maxBytes} bytes per message (max_message_size), and the message has ${bytes}; send a reference to the data instead`,
    );
  }

  /** Forgets everything: a new connection may lead to a server with other settings. */
  clear(): void {
    this.#paths.clear();
    this.#maxBytes = Number.POSITIVE_INFINITY;
  }
}

function topicPath(exchange: string, routingKey: string): string {
  return `${exchange} ${routingKey}`;
}
