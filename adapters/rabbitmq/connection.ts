import type { ConnectionOptions } from "node:tls";
import { type Channel, type ChannelModel, connect, type Options, type SocketOptions } from "amqplib";
import { settleWithin } from "../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { connectError, isUnexplained, lostError, noneReached, refusalReason, ServerRefusal } from "./errors.ts";
import { type Hosts, type Place, placeText, type RabbitMQPasswordProvider, type Settings } from "./options.ts";
import type { ServerWords } from "./server-words.ts";
import { guardHeaders } from "./unreadable-headers.ts";

/**
 * Settles as `work` does, or rejects with `timeout` after `ms` milliseconds. amqplib's promises never settle on a
 * connection that is half-open, so that none of them may be awaited bare. `work`'s later rejection is swallowed.
 */
export function within<Result>(ms: number, what: string, work: Promise<Result>): Promise<Result> {
  const late = (): MessagingError =>
    new MessagingError("timeout", `RabbitMQ gave no answer within ${ms} ms to: ${what}`);
  return settleWithin(ms, late, work);
}

/** A password or token, and until when it can be used. */
interface Password {
  readonly value: string;
  /** Milliseconds since 1970; undefined where nobody says so. */
  readonly expiresAt: number | undefined;
}

/** Asks for the password where it is a function's to say. Rejects with `unauthorized` if that fails. */
export async function currentPassword(
  { password, words }: Pick<Settings, "password" | "words">,
  timeoutMs: number,
): Promise<Password> {
  const current =
    typeof password === "string" ? { value: password, expiresAt: undefined } : await asked(password, timeoutMs);
  words.used(current.value);
  return current;
}

async function asked(password: RabbitMQPasswordProvider, timeoutMs: number): Promise<Password> {
  const what = "the function that was given to rabbitmq() as password";
  let read: Given;
  try {
    read = readGiven(await within(timeoutMs, `give a password, by ${what}`, Promise.resolve().then(password)));
  } catch (cause) {
    throw new MessagingError("unauthorized", `${what} failed, so there is none to log in with; see the cause`, {
      cause,
    });
  }
  const { value, until } = read;
  if (typeof value !== "string" || value === "") {
    throw new MessagingError("unauthorized", `${what} gave no text; let it give one, or { value, expiresAt }`);
  }
  const expiresAt = until ?? expiryOf(value);
  return { value, expiresAt: expiresAt !== undefined && Number.isFinite(expiresAt) ? expiresAt : undefined };
}

/** What a function gave, as far as it can be read. */
interface Given {
  readonly value: unknown;
  /** Milliseconds since 1970. */
  readonly until: number | undefined;
}

/** Throws what looking at it throws: it is an object of the caller's. */
function readGiven(given: unknown): Given {
  if (typeof given === "string") return { value: given, until: undefined };
  const { value, expiresAt } = (given ?? {}) as { readonly value?: unknown; readonly expiresAt?: unknown };
  return { value, until: expiresAt instanceof Date ? expiresAt.getTime() : undefined };
}

const JSON_WEB_TOKEN = /^[\w-]+\.([\w-]+)\.[\w-]*$/;

/** What a JSON Web Token says of its end, in milliseconds. */
function expiryOf(value: string): number | undefined {
  const [, claims] = JSON_WEB_TOKEN.exec(value) ?? [];
  if (claims === undefined) return undefined;
  try {
    const { exp } = JSON.parse(Buffer.from(claims, "base64url").toString("utf8")) as { readonly exp?: unknown };
    return typeof exp === "number" ? exp * 1_000 : undefined;
  } catch {
    // A password with two dots in it.
    return undefined;
  }
}

/** A token is replaced when this much of its time is over. */
const USED = 0.8;
/** Between tries that fail. */
const AGAIN_MS = 5_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Gives the server a new token before the old one is over, so that it does not end the connection. */
class Renewal {
  readonly #model: ChannelModel;
  readonly #settings: Settings;
  readonly #failed: (error: MessagingError) => void;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  /** `failed` is told why no new one was given; it is tried again until the server ends the connection. */
  constructor(model: ChannelModel, settings: Settings, failed: (error: MessagingError) => void) {
    this.#model = model;
    this.#settings = settings;
    this.#failed = failed;
  }

  /** Replaces a password that is in use before it expires, if it does. */
  before({ expiresAt }: Password): void {
    const leftMs = expiresAt === undefined ? 0 : expiresAt - Date.now();
    // What is over already, by this clock, the server has taken all the same.
    if (leftMs > 0) this.#later(Math.min(leftMs * USED, LONGEST_TIMER_MS));
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  #later(ms: number): void {
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
      this.#failed(isMessagingError(error) ? error : refused(this.#settings.words.error(error)));
      this.#later(AGAIN_MS);
    }
  }
}

function refused(cause: unknown): MessagingError {
  return new MessagingError(
    "unauthorized",
    "RabbitMQ was not given a new token before the old one is over; see the cause",
    {
      cause,
    },
  );
}

/**
 * Opens a channel whose closing by the server throws nothing by itself: the operation that caused it rejects. Rejects with
 * `overloaded` if the connection has no more of them.
 */
export async function openChannel(link: Connection, ms: number): Promise<Channel> {
  const channel = await answered(link, ms, "open a channel", link.model.createChannel()).catch((error: unknown) => {
    throw isUsedUp(error) ? usedUp(link, error) : error;
  });
  channel.on("error", () => {});
  guardClosing(link, ms, channel);
  return channel;
}

/** The part of amqplib's channel that closes it after a frame that does not belong there. It is not in amqplib's types. */
interface ClosesItself {
  closeWithError?(...because: unknown[]): void;
}

/**
 * A frame that does not belong to a channel has amqplib close it, and say so when the server has answered. Until then
 * everything on the channel is silent: an answer that is owed for too long ends the connection.
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

/** Uses a channel of its own for something that may have it closed by the server. */
export async function withChannel<Result>(
  link: Connection,
  ms: number,
  what: string,
  use: (channel: Channel) => Promise<Result>,
): Promise<Result> {
  const channel = await openChannel(link, ms);
  try {
    return await answered(link, ms, what, use(channel));
  } finally {
    // The server closed it already if the operation failed.
    channel.close().catch(() => {});
  }
}

/** Waits for an answer of the broker. A connection that owes one for too long is dead: it is cut, to be made anew. */
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
    throw link.words.error(error);
  }
}

/** In amqplib's words. */
function isUsedUp(error: unknown): boolean {
  return error instanceof Error && error.message === "No channels left to allocate";
}

function usedUp({ model, where }: Connection, cause: unknown): MessagingError {
  const { channelMax } = model.connection as unknown as { readonly channelMax?: number };
  const most = channelMax === undefined ? "" : ` ${channelMax}`;
  return new MessagingError(
    "overloaded",
    `all${most} channels that RabbitMQ at ${where} allows a connection (its channel_max) are in use, and each consumer has one; raise channel_max in rabbitmq.conf, or spread the consumers over several broker objects or processes`,
    { cause },
  );
}

/** One connection as long as it stands. */
export interface Connection {
  readonly model: ChannelModel;
  /** The server that it leads to, for people. */
  readonly where: string;
  /** What the server says passes there before it is shown or kept. */
  readonly words: ServerWords;
  /** Cuts the connection at once; for when it does not answer. */
  cut(): void;
}

export interface LinkEvents {
  /** A connection stands. Until this resolves it is not used; if it rejects, the connection is cut and made anew. */
  prepare(link: Connection): Promise<void>;
  /** A connection that had been prepared is gone; another is being made. */
  lost(cause: MessagingError): void;
  /** A connection was made again. */
  restored(): void;
  /** An attempt to make it again failed for a reason that time alone does not mend. */
  refused(error: MessagingError): void;
}

const CLOSE_MS = 5_000;

/**
 * A connection that is made again for as long as it is wanted, with growing waits between attempts. amqplib's own
 * recovery is not used: it leaves channels dead and retries refused credentials.
 */
export class SupervisedConnection {
  readonly #settings: Settings;
  readonly #hosts: Hosts;
  readonly #role: string;
  readonly #events: LinkEvents;
  readonly #ended = new AbortController();
  #link: Connection | undefined;
  #retry: NodeJS.Timeout | undefined;
  #attempts = 0;
  #told: string | undefined;

  constructor(settings: Settings, hosts: Hosts, role: string, events: LinkEvents) {
    this.#settings = settings;
    this.#hosts = hosts;
    this.#role = role;
    this.#events = events;
  }

  /** The connection, while it stands and is prepared. */
  get current(): Connection | undefined {
    return this.#link;
  }

  /** Makes the first connection; rejects if that fails, and is then of no further use. */
  async open(): Promise<void> {
    try {
      await this.#connect();
    } catch (error) {
      this.#ended.abort();
      throw error;
    }
  }

  /** Begins to make the connection, and reports `restored` when it stands. */
  start(): void {
    this.#reconnectLater();
  }

  /** Ends the connection and every attempt at one, in bounded time. A second call does nothing. */
  async close(): Promise<void> {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort();
    clearTimeout(this.#retry);
    const link = this.#link;
    this.#link = undefined;
    if (link === undefined) return;
    // Closing fails where the connection is gone already, which is what was wanted.
    await within(CLOSE_MS, "close the connection", link.model.close()).catch(() => {});
    link.cut();
  }

  /** To the first host that takes it. */
  async #connect(): Promise<void> {
    const failures: { readonly place: Place; readonly error: MessagingError }[] = [];
    for (const place of this.#hosts.order()) {
      try {
        await this.#connectTo(place);
        return;
      } catch (error) {
        const refusal = connectError(error, place, this.#settings);
        // Every node of a cluster would say the same, and count the login as one more that failed.
        if (this.#ended.signal.aborted || !isOfTheHost(refusal)) throw refusal;
        this.#hosts.lost(place);
        failures.push({ place, error: refusal });
      }
    }
    throw noneReached(failures);
  }

  async #connectTo(place: Place): Promise<void> {
    const { heartbeatSeconds, connectTimeoutMs, requestTimeoutMs, connectionName, vhost, tls, username, words } =
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
        dialled(
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
      link = { model, where: placeText(place), words, cut };
      const renewal = new Renewal(model, this.#settings, (error) => this.#events.refused(error));
      const closed = new Promise<never>((_resolve, reject) => {
        let closing: NodeJS.Timeout | undefined;
        model.on("error", (error) => {
          cause ??= words.error(error);
          // The end follows at once, unless amqplib waits for an answer to its own close.
          closing ??= setTimeout(cut, requestTimeoutMs).unref();
        });
        model.on("close", (error) => {
          clearTimeout(closing);
          renewal.stop();
          const lost = lostError(cause ?? words.error(error), place);
          reject(lost);
          if (this.#link === link) this.#onLost(lost, place);
          // The peer of a half-open connection never ends its side.
          cut();
        });
      });
      closed.catch(() => {});
      await Promise.race([closed, within(connectTimeoutMs, "prepare the connection", this.#events.prepare(link))]);
      if (this.#ended.signal.aborted) throw new MessagingError("closed", "the adapter was closed while it connected");
      this.#link = link;
      this.#attempts = 0;
      this.#hosts.connected(place);
      renewal.before(password);
    } catch (error) {
      cut();
      const reason = cause ?? (await this.#explained(words.error(error), place, password.value));
      throw connectError(reason, place, this.#settings);
    }
  }

  async #explained(error: unknown, place: Place, password: string): Promise<unknown> {
    if (!isUnexplained(error) || this.#ended.signal.aborted) return error;
    const { tls, username, vhost, connectTimeoutMs, words } = this.#settings;
    const refusal = await refusalReason({ ...place, tls, username, password, vhost }, connectTimeoutMs);
    return refusal === undefined ? error : new ServerRefusal(refusal.code, words.text(refusal));
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
      if (isMessagingError(error)) this.#tell(error);
      this.#reconnectLater();
      return;
    }
    this.#told = undefined;
    this.#events.restored();
  }

  /** Once, and again when the reason changes: attempts never end. */
  #tell(refusal: MessagingError): void {
    if (isPassing(refusal) || this.#told === refusal.message) return;
    this.#told = refusal.message;
    this.#events.refused(refusal);
  }
}

/** Whether another host may be reached all the same. */
function isOfTheHost({ code }: MessagingError): boolean {
  return code === "unreachable" || code === "timeout" || code === "overloaded";
}

/** Time alone mends what is only not there. */
function isPassing({ code, cause }: MessagingError): boolean {
  return (code === "unreachable" || code === "timeout") && !(cause instanceof ServerRefusal);
}

/** `signal` is Node's own way to destroy a socket; amqplib only ever asks it to end. */
function socketOptions(tls: ConnectionOptions | undefined, connectionName: string, signal: AbortSignal): SocketOptions {
  const options = { ...tls, signal, clientProperties: { connection_name: connectionName } };
  return options as SocketOptions;
}

/** amqplib takes no heartbeat while a virtual host is opened. A server that is busy for so long sends one then. */
const HEARTBEAT_BETWEEN = /^Expected ConnectionOpenOk; got <Heartbeat/;

/** Connects, and once more where only a heartbeat came between. */
async function dialled(to: Options.Connect, options: () => SocketOptions & ConnectionOptions): Promise<ChannelModel> {
  try {
    return await connect(to, options());
  } catch (error) {
    if (!HEARTBEAT_BETWEEN.test(thrownText(error))) throw error;
    return connect(to, options());
  }
}
