import type { ConnectionOptions } from "node:tls";
import { type Channel, type ChannelModel, connect, type Options, type SocketOptions } from "amqplib";
import { settleWithin } from "../../core/clock.ts";
import { Slots } from "../../core/concurrency.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { connectError, isUnexplained, lostError, noneReached, refusalReason, ServerRefusal } from "./errors.ts";
import { guardFrames } from "./impossible-frames.ts";
import { type Hosts, type Place, placeText, type RabbitMQPasswordProvider, type Settings } from "./options.ts";
import type { Redactor } from "./redactor.ts";
import { guardHeaders } from "./unreadable-headers.ts";

/**
 * Settles as `work` does, or rejects with `timeout` after `ms` milliseconds. amqplib's promises never settle on a
 * half-open connection, so each of them must be awaited with a limit. Later rejections of `work` are ignored.
 */
export function within<Result>(ms: number, what: string, work: Promise<Result>): Promise<Result> {
  const late = (): MessagingError =>
    new MessagingError("timeout", `RabbitMQ did not answer within ${ms} ms to: ${what}`);
  return settleWithin(ms, late, work);
}

/** A password or token, and its expiry. */
interface Password {
  readonly value: string;
  /** Milliseconds since 1970; undefined if unknown. */
  readonly expiresAt: number | undefined;
}

/** Returns the password, from the function if it is one. Rejects with `unauthorized` if the function fails. */
export async function currentPassword(
  { password, redactor }: Pick<Settings, "password" | "redactor">,
  timeoutMs: number,
): Promise<Password> {
  const current =
    typeof password === "string" ? { value: password, expiresAt: undefined } : await callProvider(password, timeoutMs);
  redactor.addPassword(current.value);
  return current;
}

async function callProvider(password: RabbitMQPasswordProvider, timeoutMs: number): Promise<Password> {
  const what = "the password function of rabbitmq()";
  let read: ProviderResult;
  try {
    const late = (): MessagingError => new MessagingError("timeout", `${what} did not return within ${timeoutMs} ms`);
    read = readProviderResult(await settleWithin(timeoutMs, late, Promise.resolve().then(password)));
  } catch (cause) {
    throw new MessagingError("unauthorized", `${what} failed, so there is no password for the login; see the cause`, {
      cause,
    });
  }
  const { value, expiresAtMs } = read;
  if (typeof value !== "string" || value === "") {
    throw new MessagingError("unauthorized", `${what} returned no string; return one, or { value, expiresAt }`);
  }
  const expiresAt = expiresAtMs ?? expiryOf(value);
  return { value, expiresAt: expiresAt !== undefined && Number.isFinite(expiresAt) ? expiresAt : undefined };
}

/** What the function returned. */
interface ProviderResult {
  readonly value: unknown;
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number | undefined;
}

/** Throws what a getter of the caller's object throws. */
function readProviderResult(result: unknown): ProviderResult {
  if (typeof result === "string") return { value: result, expiresAtMs: undefined };
  const { value, expiresAt } = (result ?? {}) as { readonly value?: unknown; readonly expiresAt?: unknown };
  return { value, expiresAtMs: expiresAt instanceof Date ? expiresAt.getTime() : undefined };
}

const JSON_WEB_TOKEN = /^[\w-]+\.([\w-]+)\.[\w-]*$/;

/** The expiry of a JSON Web Token, in milliseconds since 1970. */
function expiryOf(value: string): number | undefined {
  const [, claims] = JSON_WEB_TOKEN.exec(value) ?? [];
  if (claims === undefined) return undefined;
  try {
    const { exp } = JSON.parse(Buffer.from(claims, "base64url").toString("utf8")) as { readonly exp?: unknown };
    return typeof exp === "number" ? exp * 1_000 : undefined;
  } catch {
    // It is a password with two dots.
    return undefined;
  }
}

/** A token is replaced after this part of its lifetime. */
const RENEW_AFTER = 0.8;
/** The wait between failed attempts. */
const RETRY_MS = 5_000;
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Gives the server a new token before the current one expires, so that it does not close the connection. */
class Renewal {
  readonly #model: ChannelModel;
  readonly #settings: Settings;
  readonly #failed: (error: MessagingError) => void;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  /** `failed` gets the reason of each failed attempt; attempts continue until the server closes the connection. */
  constructor(model: ChannelModel, settings: Settings, failed: (error: MessagingError) => void) {
    this.#model = model;
    this.#settings = settings;
    this.#failed = failed;
  }

  /** Replaces a password before it expires, if it does. */
  before({ expiresAt }: Password): void {
    const leftMs = expiresAt === undefined ? 0 : expiresAt - Date.now();
    // A token that has expired by this clock was accepted by the server nevertheless.
    if (leftMs > 0) this.#schedule(Math.min(leftMs * RENEW_AFTER, MAX_TIMER_MS));
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #schedule(ms: number): void {
    if (this.#isOver) return;
    this.#timer = setTimeout(() => void this.#renew(), ms);
    this.#timer.unref();
  }

  async #renew(): Promise<void> {
    const { requestTimeoutMs } = this.#settings;
    try {
      const password = await currentPassword(this.#settings, requestTimeoutMs);
      if (this.#isOver) return;
      const updated = this.#model.updateSecret(Buffer.from(password.value), "the token is about to expire");
      await within(requestTimeoutMs, "take a new token", updated);
      this.before(password);
    } catch (error) {
      if (this.#isOver) return;
      this.#failed(isMessagingError(error) ? error : refused(this.#settings.redactor.error(error)));
      this.#schedule(RETRY_MS);
    }
  }
}

function refused(cause: unknown): MessagingError {
  return new MessagingError(
    "unauthorized",
    "RabbitMQ did not get a new token before the current one expires; see the cause",
    {
      cause,
    },
  );
}

/**
 * Opens a channel. If the server closes it, only the operation that caused that rejects. Rejects with `overloaded` if
 * the connection has no more channels.
 */
export async function openChannel(link: Connection, ms: number): Promise<Channel> {
  const channel = await answered(link, ms, "open a channel", link.model.createChannel()).catch((error: unknown) => {
    throw isOutOfChannels(error) ? outOfChannels(link, error) : error;
  });
  channel.on("error", () => {});
  guardClosing(link, ms, channel);
  return channel;
}

/** The part of amqplib's channel that closes it after an unexpected frame. It is not in amqplib's types. */
interface ClosesItself {
  closeWithError?(...because: unknown[]): void;
}

/**
 * After an unexpected frame amqplib closes the channel, and reports it only when the server has answered. Cuts the
 * connection if that answer takes longer than `ms`.
 */
export function guardClosing(link: Connection, ms: number, channel: Channel): void {
  const closing = channel as unknown as ClosesItself;
  const { closeWithError } = closing;
  if (typeof closeWithError !== "function") return;
  closing.closeWithError = function (this: ClosesItself, ...because): void {
    const timer = setTimeout(() => link.cut(), ms);
    timer.unref();
    channel.once("close", () => clearTimeout(timer));
    closeWithError.apply(this, because);
  };
}

/** The most channels for operations at once on a connection. */
const MAX_OPERATIONS = 8;

/**
 * Lets operations open a quarter of a connection's channels at once, and eight at most. Without that bound, consumers that
 * start together would all have operations in progress and find no channel for themselves.
 */
export function operationSlots(model: ChannelModel): Slots {
  const { channelMax } = model.connection as unknown as { readonly channelMax?: number };
  const slots = new Slots(
    channelMax === undefined ? MAX_OPERATIONS : Math.max(1, Math.min(MAX_OPERATIONS, channelMax >> 2)),
  );
  // Nothing waits for a connection that has ended: opening a channel rejects at once.
  model.once("close", () => slots.setMost(Number.POSITIVE_INFINITY));
  return slots;
}

/** Opens a channel for operations, when a slot is free. The slot is free again when the channel is closed, by either side. */
export async function openOperationChannel(link: Connection, ms: number): Promise<Channel> {
  await link.operations.take();
  let isOver = false;
  const end = (): void => {
    if (!isOver) link.operations.give();
    isOver = true;
  };
  try {
    const channel = await openChannel(link, ms);
    channel.once("close", end);
    const close = channel.close.bind(channel);
    // It does not wait for the server's answer: a server that never answers must not use up the slots.
    channel.close = (): Promise<void> => {
      end();
      return close();
    };
    return channel;
  } catch (error) {
    end();
    throw error;
  }
}

/** Runs an operation that may close its channel, on a channel opened for it. */
export async function withChannel<Result>(
  link: Connection,
  ms: number,
  what: string,
  use: (channel: Channel) => Promise<Result>,
): Promise<Result> {
  const channel = await openOperationChannel(link, ms);
  try {
    return await answered(link, ms, what, use(channel));
  } finally {
    // If the operation failed, the server has closed it.
    channel.close().catch(() => {});
  }
}

/** Waits for an answer of the broker. If it takes too long, the connection counts as dead and is cut. */
export async function answered<Result>(
  link: Connection,
  ms: number,
  what: string,
  work: Promise<Result>,
): Promise<Result> {
  try {
    return await within(ms, what, work);
  } catch (error) {
    if (isMessagingError(error, "timeout")) link.cut();
    // amqplib gives the server's reason for the end of a connection to the connection only.
    throw link.lostBecause ?? link.redactor.error(error);
  }
}

/** By amqplib's error text. */
function isOutOfChannels(error: unknown): boolean {
  return error instanceof Error && error.message === "No channels left to allocate";
}

function outOfChannels({ model, where }: Connection, cause: unknown): MessagingError {
  const { channelMax } = model.connection as unknown as { readonly channelMax?: number };
  const most = channelMax === undefined ? "" : ` ${channelMax}`;
  return new MessagingError(
    "overloaded",
    `all${most} channels that RabbitMQ at ${where} allows on a connection (channel_max) are in use, and each consumer needs one; raise channel_max in rabbitmq.conf, or spread the consumers over several broker objects or processes`,
    { cause },
  );
}

/** One connection while it is open. */
export interface Connection {
  readonly model: ChannelModel;
  /** The server's address for error messages. */
  readonly where: string;
  /** Redacts the server's texts. */
  readonly redactor: Redactor;
  /** The slots of channels that are open for an operation only. */
  readonly operations: Slots;
  /** Why the connection ended, redacted; undefined while it is open, or without a reason. */
  readonly lostBecause?: unknown;
  /** Destroys the socket at once; for a connection that does not answer. */
  cut(): void;
}

export interface ConnectionEvents {
  /** A connection is open. It is used once this resolves; if this rejects, it is cut and opened again. */
  prepare(link: Connection): Promise<void>;
  /** A prepared connection is lost; it reconnects. */
  lost(cause: MessagingError): void;
  /** It has reconnected. */
  restored(): void;
  /** An attempt to reconnect failed for a reason that needs an operator. */
  refused(error: MessagingError): void;
}

const CLOSE_MS = 5_000;

/**
 * A connection that reconnects until it is closed, with growing waits. It does not use amqplib's recovery, which leaves
 * channels dead and retries refused credentials.
 */
export class SupervisedConnection {
  readonly #settings: Settings;
  readonly #hosts: Hosts;
  readonly #role: string;
  readonly #events: ConnectionEvents;
  readonly #ended = new AbortController();
  #link: Connection | undefined;
  #retry: NodeJS.Timeout | undefined;
  #attempts = 0;
  #reported: string | undefined;

  constructor(settings: Settings, hosts: Hosts, role: string, events: ConnectionEvents) {
    this.#settings = settings;
    this.#hosts = hosts;
    this.#role = role;
    this.#events = events;
  }

  /** The connection while it is open and prepared. */
  get current(): Connection | undefined {
    return this.#link;
  }

  /** Opens the first connection. If that rejects, this object cannot be used again. */
  async open(): Promise<void> {
    try {
      await this.#connect();
    } catch (error) {
      this.#ended.abort();
      throw error;
    }
  }

  /** Starts to connect, and reports `restored` when connected. */
  start(): void {
    this.#reconnectLater();
  }

  /** Closes the connection and ends all attempts, in bounded time. A second call does nothing. */
  async close(): Promise<void> {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    clearTimeout(this.#retry);
    const link = this.#link;
    this.#link = undefined;
    if (link === undefined) return;
    // Closing fails if the connection is lost already.
    await within(CLOSE_MS, "close the connection", link.model.close()).catch(() => {});
    link.cut();
  }

  /** Connects to the first host that accepts. */
  async #connect(): Promise<void> {
    const failures: { readonly place: Place; readonly error: MessagingError }[] = [];
    for (const place of this.#hosts.order()) {
      try {
        await this.#connectTo(place);
        return;
      } catch (error) {
        const refusal = connectError(error, place, this.#settings);
        // Other nodes of the cluster would refuse too, and count another failed login.
        if (this.#ended.signal.aborted || !isOfTheHost(refusal)) throw refusal;
        this.#hosts.lost(place);
        failures.push({ place, error: refusal });
      }
    }
    throw noneReached(failures);
  }

  async #connectTo(place: Place): Promise<void> {
    const { heartbeatSeconds, connectTimeoutMs, requestTimeoutMs, connectionName, vhost, tls, username, redactor } =
      this.#settings;
    const password = await currentPassword(this.#settings, connectTimeoutMs);
    const cutter = new AbortController();
    const cut = (): void => cutter.abort();
    this.#ended.signal.addEventListener("abort", cut, { once: true });
    let link: Connection | undefined;
    let cause: unknown;
    try {
      const model = await within(
        connectTimeoutMs,
        `connect to ${placeText(place)}`,
        connectOverHeartbeat(
          {
            protocol: tls === undefined ? "amqp" : "amqps",
            hostname: place.host,
            port: place.port,
            username,
            password: password.value,
            vhost: encodeURIComponent(vhost),
            heartbeat: heartbeatSeconds,
          },
          () => socketOptions(tls, `${connectionName} ${this.#role}`, cutter.signal),
        ),
      );
      this.#ended.signal.removeEventListener("abort", cut);
      guardHeaders(model);
      guardFrames(model);
      link = {
        model,
        where: placeText(place),
        redactor,
        operations: operationSlots(model),
        get lostBecause() {
          return cause;
        },
        cut,
      };
      const renewal = new Renewal(model, this.#settings, (error) => this.#events.refused(error));
      const closed = new Promise<never>((_resolve, reject) => {
        let closing: NodeJS.Timeout | undefined;
        model.on("error", (error) => {
          cause ??= redactor.error(error);
          // The end follows at once, unless amqplib waits for the answer to its close.
          closing ??= setTimeout(cut, requestTimeoutMs).unref();
        });
        model.on("close", (error) => {
          clearTimeout(closing);
          renewal.stop();
          const lost = lostError(cause ?? redactor.error(error), place);
          reject(lost);
          if (this.#link === link) this.#onLost(lost, place);
          // The peer of a half-open connection never closes its side.
          cut();
        });
      });
      closed.catch(() => {});
      await Promise.race([closed, within(connectTimeoutMs, "prepare the connection", this.#events.prepare(link))]);
      if (this.#ended.signal.aborted) throw new MessagingError("closed", "the adapter was closed while connecting");
      this.#link = link;
      this.#attempts = 0;
      this.#hosts.connected(place);
      renewal.before(password);
    } catch (error) {
      cut();
      const reason = cause ?? (await this.#explained(redactor.error(error), place, password.value));
      throw connectError(reason, place, this.#settings);
    }
  }

  async #explained(error: unknown, place: Place, password: string): Promise<unknown> {
    if (!isUnexplained(error) || this.#ended.signal.aborted) return error;
    const { tls, username, vhost, connectTimeoutMs, redactor } = this.#settings;
    const refusal = await refusalReason({ ...place, tls, username, password, vhost }, connectTimeoutMs);
    return refusal === undefined ? error : new ServerRefusal(refusal.code, redactor.text(refusal));
  }

  #onLost(cause: MessagingError, place: Place): void {
    this.#link = undefined;
    if (this.#ended.signal.aborted) return;
    this.#hosts.lost(place);
    this.#events.lost(cause);
    this.#reconnectLater();
  }

  #reconnectLater(): void {
    const { reconnectFirstMs: firstMs, reconnectMaxMs: maxMs } = this.#settings;
    const waitMs = backoffMs(++this.#attempts, { firstMs, maxMs });
    this.#retry = setTimeout(() => void this.#reconnect(), waitMs);
  }

  async #reconnect(): Promise<void> {
    try {
      await this.#connect();
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      if (isMessagingError(error)) this.#report(error);
      this.#reconnectLater();
      return;
    }
    this.#reported = undefined;
    this.#events.restored();
  }

  /** Reports a refusal once, and again when the reason changes. */
  #report(refusal: MessagingError): void {
    if (isTemporary(refusal) || this.#reported === refusal.message) return;
    this.#reported = refusal.message;
    this.#events.refused(refusal);
  }
}

/** Whether another host may accept. */
function isOfTheHost({ code }: MessagingError): boolean {
  return code === "unreachable" || code === "timeout" || code === "overloaded";
}

/** Whether the reason may pass without an operator: the server does not answer. */
function isTemporary({ code, cause }: MessagingError): boolean {
  return (code === "unreachable" || code === "timeout") && !(cause instanceof ServerRefusal);
}

/** `signal` destroys the socket; amqplib can only end it. */
function socketOptions(tls: ConnectionOptions | undefined, connectionName: string, signal: AbortSignal): SocketOptions {
  const options = { ...tls, signal, clientProperties: { connection_name: connectionName } };
  return options as SocketOptions;
}

/** amqplib accepts no heartbeat while a virtual host is opened. A slow server sends one then. */
const HEARTBEAT_BETWEEN = /^Expected ConnectionOpenOk; got <Heartbeat/;

/** Connects, and tries once more if a heartbeat interrupted. */
async function connectOverHeartbeat(
  to: Options.Connect,
  options: () => SocketOptions & ConnectionOptions,
): Promise<ChannelModel> {
  try {
    return await connect(to, options());
  } catch (error) {
    if (!HEARTBEAT_BETWEEN.test(thrownText(error))) throw error;
    return connect(to, options());
  }
}
