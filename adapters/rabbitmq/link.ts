import type { ConnectionOptions } from "node:tls";
import { type ChannelModel, connect, type Options, type SocketOptions } from "amqplib";
import { backoffMs } from "../../core/backoff.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { within } from "./deadline.ts";
import { connectError, lostError, noneReached } from "./errors.ts";
import { type Hosts, placeText } from "./hosts.ts";
import type { Place, Settings } from "./options.ts";
import { currentPassword } from "./password.ts";
import { isUnexplained, refusalReason, ServerRefusal } from "./refusal-reason.ts";
import { Renewal } from "./renewal-of-password.ts";
import type { ServerWords } from "./server-words.ts";

/** One connection as long as it stands. */
export interface Link {
  readonly model: ChannelModel;
  /** The server that it leads to, as people read it. */
  readonly where: string;
  /** What the server says passes there before it is shown or kept. */
  readonly words: ServerWords;
  /** Cuts the connection at once; for when it does not answer. */
  cut(): void;
}

export interface LinkEvents {
  /** A connection stands. Until this resolves it is not used; if it rejects, the connection is cut and made anew. */
  prepare(link: Link): Promise<void>;
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
export class SupervisedLink {
  readonly #settings: Settings;
  readonly #hosts: Hosts;
  readonly #role: string;
  readonly #events: LinkEvents;
  readonly #ended = new AbortController();
  #link: Link | undefined;
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
  get current(): Link | undefined {
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
    const { heartbeatSeconds, connectTimeoutMs, connectionName, vhost, tls, username, words } = this.#settings;
    const password = await currentPassword(this.#settings, connectTimeoutMs);
    const cutter = new AbortController();
    const cut = (): void => cutter.abort();
    this.#ended.signal.addEventListener("abort", cut, { once: true });
    let link: Link | undefined;
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
      link = { model, where: placeText(place), words, cut };
      const renewal = new Renewal(model, this.#settings, (error) => this.#events.refused(error));
      const closed = new Promise<never>((_resolve, reject) => {
        model.on("error", (error) => {
          cause = words.error(error);
        });
        model.on("close", (error) => {
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
