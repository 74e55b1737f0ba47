import { isIP } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { checkInteger, checkOptions, optionalText } from "../../core/checks.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { ServerWords } from "./server-words.ts";

/**
 * Which of the hosts are tried in which order. All connections of an adapter go to one host while it serves: what was
 * declared over one of them is there at once for the others.
 */
export class Hosts {
  readonly #random: () => number;
  #order: readonly Place[];
  #current: Place | undefined;

  constructor(all: readonly Place[], random: () => number = Math.random) {
    this.#random = random;
    this.#order = this.#shuffled(all);
  }

  /** The one that serves, then the others in random order, and last the one that was lost. */
  order(): readonly Place[] {
    const current = this.#current;
    return current === undefined ? this.#order : [current, ...this.#order.filter((place) => place !== current)];
  }

  connected(place: Place): void {
    this.#current = place;
  }

  /** A connection there was lost, or could not be made. */
  lost(place: Place): void {
    if (this.#current === place) this.#current = undefined;
    // Told by each connection that was there: the second must not go another way than the first.
    if (this.#order.at(-1) === place) return;
    this.#order = [...this.#shuffled(this.#order.filter((one) => one !== place)), place];
  }

  #shuffled(places: readonly Place[]): readonly Place[] {
    return places
      .map((place) => ({ place, rank: this.#random() }))
      .sort((one, other) => one.rank - other.rank)
      .map(({ place }) => place);
  }
}

/** One host for people. */
export function placeText({ host, port }: Place): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** All hosts for people. */
export function placesText({ hosts }: Pick<Settings, "hosts">): string {
  return hosts.map(placeText).join(", ");
}

/** How to reach RabbitMQ and what to ask of it. Everything has a default but credentials away from this machine. */
export interface RabbitMQOptions {
  /**
   * `amqp://user:password@host:5672/vhost`, or `amqps:`; of a cluster several hosts, `amqp://user:password@a:5672,b,c/vhost`.
   * Everything else about the place may stand in `host`, `port`, `username`, `password` and `vhost` instead; one given
   * there comes before the URL's. Query parameters are refused.
   */
  readonly url?: string;
  /**
   * Of a cluster several, `["a", "b:5673"]`: they are tried in turn and in random order, at the start and after a loss.
   * Default `localhost`.
   */
  readonly host?: string | readonly string[];
  /** Of hosts that name none. Default 5672, with TLS 5671. */
  readonly port?: number;
  /** Required unless the host is this machine, where it defaults to RabbitMQ's `guest`. */
  readonly username?: string;
  /**
   * Or a function, for a password or token that expires: it is asked at each login, of both connections, and before the
   * token is over, when the server is given a new one while the connections go on. What it rejects with is the cause of
   * the refusal.
   */
  readonly password?: string | RabbitMQPasswordProvider;
  /** Default `/`. */
  readonly vhost?: string;
  /**
   * Given (if only as `{}`), the connection is encrypted. Passed to Node's `tls.connect`: `ca`, `cert`, `key`,
   * `servername` and so on. The server's certificate is always verified: `rejectUnauthorized: false` is refused.
   */
  readonly tls?: ConnectionOptions;
  /** Seconds between heartbeats; a peer silent for two to three of them counts as dead. 1 to 60. Default 10. */
  readonly heartbeatSeconds?: number;
  /** Milliseconds that one attempt to connect may take, handshake included. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /**
   * Milliseconds that the broker may take to answer a declaration, a subscription or a question; after that the
   * connection counts as dead and is made anew. Default 30,000.
   */
  readonly requestTimeoutMs?: number;
  /**
   * Milliseconds between attempts to reconnect: the first wait, doubled up to the longest, each with random jitter.
   * Attempts never end. Default 100 and 3,000.
   */
  readonly reconnect?: { readonly firstMs?: number; readonly maxMs?: number };
  /**
   * How often RabbitMQ itself redelivers a message of a queue declared here before moving it to the dead letters. A net
   * under the retry policy, for what kills a consumer before the policy can see it. Default 100. Ordered destinations
   * get ten times as many: there a lost connection counts for every message that the one consumer had prefetched.
   */
  readonly deliveryLimit?: number;
  /**
   * How long RabbitMQ lets a consumer hold a delivery, in milliseconds. From 4.3 on consumers ask for this themselves,
   * which counts before rabbitmq.conf and policies; default 2,147,483,647, 24.8 days. Before 4.3 it tells anybroker what
   * the server has as `consumer_timeout`; default 1,800,000, as RabbitMQ's own. A delivery is given back before it is
   * over, so a handler of an unordered destination may run for no longer: at start a longer `timeoutMs` is refused.
   */
  readonly consumerTimeoutMs?: number;
  /**
   * More arguments for the work queues declared here, as in `{ "x-quorum-initial-group-size": 5 }`. Those that
   * anybroker sets itself are refused. Part of a queue for good: a changed value is a `conflict` at the next start, so
   * prefer RabbitMQ's policies.
   */
  readonly queueArguments?: Readonly<Record<string, string | number | boolean>>;
  /**
   * Where RabbitMQ's management API is, as `https://host:15671`. It is asked with the login and the `tls` of the
   * connection; the user has to have a tag such as `management`. With it, a start finds the policies that would lose
   * messages (`conflict`) or change how it works (event `notice`), which AMQP does not tell. Default: policies are not
   * looked at.
   */
  readonly managementUrl?: string;
  /** What the management UI shows for the connections, followed by `publish` or `consume`. Default `anybroker`. */
  readonly connectionName?: string;
}

/**
 * Gives the password, or a token: when it expires, it says beside it; a JSON Web Token says so itself. Without either it is
 * asked again when the server ends the connection.
 */
export type RabbitMQPasswordProvider = () => RabbitMQPassword | Promise<RabbitMQPassword>;

/** What is logged in with. */
export type RabbitMQPassword = string | { readonly value: string; readonly expiresAt?: Date };

/** The options, checked and with their defaults. */
export interface Settings {
  readonly hosts: readonly Place[];
  readonly username: string;
  readonly password: string | RabbitMQPasswordProvider;
  readonly vhost: string;
  readonly tls: ConnectionOptions | undefined;
  readonly heartbeatSeconds: number;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly reconnectFirstMs: number;
  readonly reconnectMaxMs: number;
  readonly deliveryLimit: number;
  readonly consumerTimeoutMs: number | undefined;
  readonly queueArguments: Readonly<Record<string, string | number | boolean>>;
  readonly connectionName: string;
  /** Without a slash at its end. */
  readonly managementUrl: string | undefined;
  /** What the server says passes there. Shared by all connections of an adapter. */
  readonly words: ServerWords;
}

const WHERE = "rabbitmq()";
const OPTIONS = [
  "url",
  "host",
  "port",
  "username",
  "password",
  "vhost",
  "tls",
  "heartbeatSeconds",
  "connectTimeoutMs",
  "requestTimeoutMs",
  "reconnect",
  "deliveryLimit",
  "consumerTimeoutMs",
  "queueArguments",
  "managementUrl",
  "connectionName",
];
const OWN_ARGUMENTS = [
  "x-queue-type",
  "x-dead-letter-exchange",
  "x-dead-letter-routing-key",
  "x-dead-letter-strategy",
  "x-overflow",
  "x-delivery-limit",
  "x-single-active-consumer",
  "x-max-priority",
  "x-message-ttl",
  "x-expires",
];
/** One of the server's nodes. */
export interface Place {
  readonly host: string;
  readonly port: number;
}

/** This machine. */
export const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** Checks the options and fills in what is missing. Throws `invalid`; the error never holds the password. */
export function resolveOptions(options: RabbitMQOptions): Settings {
  checkOptions(WHERE, options, OPTIONS);
  const place = options.url === undefined ? undefined : parseUrl(options.url);
  const tls = checkTls(options.tls) ?? (place?.encrypted ? {} : undefined);
  if (place?.encrypted === false && options.tls !== undefined) {
    throw invalid("got tls options with an amqp: URL; write amqps: to encrypt, or leave the tls options out");
  }
  if (options.port !== undefined) checkInteger(`${WHERE} { port }`, options.port, 1, 65_535);
  const [ofUrl, ...more] = place?.hosts ?? [];
  const defaultPort =
    options.port ?? (more.length === 0 ? ofUrl?.port : undefined) ?? (tls === undefined ? 5672 : 5671);
  const given = options.host === undefined ? (place?.hosts ?? []) : hostsIn(options.host);
  const hosts = (given.length === 0 ? [{ host: "localhost", port: undefined }] : given).map(({ host, port }) => ({
    host,
    // A URL's port is overruled by the option, as everything is; that of a host in the options is its own.
    port: (options.host === undefined ? options.port : undefined) ?? port ?? defaultPort,
  }));
  const { reconnect = {} } = options;
  checkOptions(`${WHERE} { reconnect }`, reconnect, ["firstMs", "maxMs"]);
  const login = credentials(
    hosts.map(({ host }) => host),
    optionalText(WHERE, "username", options.username) ?? place?.username,
    options.password ?? place?.password,
  );
  const settings = {
    hosts,
    ...login,
    vhost: optionalText(WHERE, "vhost", options.vhost) ?? place?.vhost ?? "/",
    tls,
    heartbeatSeconds: options.heartbeatSeconds ?? 10,
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    requestTimeoutMs: options.requestTimeoutMs ?? 30_000,
    reconnectFirstMs: reconnect.firstMs ?? 100,
    reconnectMaxMs: reconnect.maxMs ?? Math.max(3_000, reconnect.firstMs ?? 0),
    deliveryLimit: options.deliveryLimit ?? 100,
    consumerTimeoutMs: options.consumerTimeoutMs,
    queueArguments: checkArguments(options.queueArguments ?? {}),
    connectionName: optionalText(WHERE, "connectionName", options.connectionName) ?? "anybroker",
    managementUrl: managementUrl(options.managementUrl),
    words: new ServerWords(login.username),
  };
  checkInteger(`${WHERE} { heartbeatSeconds }`, settings.heartbeatSeconds, 1, 60);
  checkInteger(`${WHERE} { connectTimeoutMs }`, settings.connectTimeoutMs, 1, LONGEST_TIMEOUT_MS);
  checkInteger(`${WHERE} { requestTimeoutMs }`, settings.requestTimeoutMs, 1, LONGEST_TIMEOUT_MS);
  checkInteger(`${WHERE} { reconnect.firstMs }`, settings.reconnectFirstMs, 1, LONGEST_TIMEOUT_MS);
  checkInteger(`${WHERE} { reconnect.maxMs }`, settings.reconnectMaxMs, settings.reconnectFirstMs, LONGEST_TIMEOUT_MS);
  checkInteger(`${WHERE} { deliveryLimit }`, settings.deliveryLimit, 1);
  if (settings.consumerTimeoutMs !== undefined) {
    checkInteger(`${WHERE} { consumerTimeoutMs }`, settings.consumerTimeoutMs, 1_000, LONGEST_TIMEOUT_MS);
  }
  return settings;
}

function managementUrl(given: string | undefined): string | undefined {
  const text = optionalText(WHERE, "managementUrl", given);
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw invalid("takes a managementUrl such as https://host:15671");
  }
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw invalid("takes a managementUrl without a login and parameters; the login of the connection is used there");
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** A host, and its port if it names one. */
interface NamedHost {
  readonly host: string;
  readonly port: number | undefined;
}

interface ReadUrl {
  readonly encrypted: boolean;
  readonly hosts: readonly NamedHost[];
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly vhost: string | undefined;
}

/** The errors quote nothing of the URL, because any part of a malformed one may hold the password. */
function parseUrl(given: string): ReadUrl {
  const [, before = "", hosts = "", after = ""] = typeof given === "string" ? (AUTHORITY.exec(given) ?? []) : [];
  // Node's own parser takes one host.
  const [first = ""] = hosts.split(",");
  const url = `${before}${first}${after}`;
  const parts = URL.canParse(url) ? new URL(url) : undefined;
  if (parts === undefined || (parts.protocol !== "amqp:" && parts.protocol !== "amqps:")) {
    throw invalid("takes a url such as amqp://user:password@host:5672/vhost or amqps://…; special characters encoded");
  }
  if (parts.search !== "" || parts.hash !== "") {
    throw invalid("takes no parameters in its url; give heartbeatSeconds, connectTimeoutMs and the like as options");
  }
  try {
    return {
      encrypted: parts.protocol === "amqps:",
      hosts: hosts === "" ? [] : hosts.split(",").map(hostIn),
      username: decodeURIComponent(parts.username) || undefined,
      password: parts.password === "" ? undefined : decodeURIComponent(parts.password),
      vhost: decodeURIComponent(parts.pathname.slice(1)) || undefined,
    };
  } catch (error) {
    if (isMessagingError(error)) throw error;
    throw invalid("got a url with a malformed percent code; encode special characters with encodeURIComponent");
  }
}

/** What stands before the hosts, the hosts, and what stands behind them. */
const AUTHORITY = /^([a-z]+:(?:\/\/)?(?:[^/?#]*@)?)([^/?#@]*)(.*)$/is;

function hostsIn(given: string | readonly string[]): readonly NamedHost[] {
  const list = typeof given === "string" ? [given] : given;
  if (!Array.isArray(list) || list.length === 0) throw invalid("takes a text or a list of texts as host, none empty");
  return list.map(hostIn);
}

/** `a.example.com`, `a.example.com:5673`, `::1`, `[::1]:5673`. */
function hostIn(given: string): NamedHost {
  if (typeof given === "string" && isIP(given) === 6) return { host: given, port: undefined };
  const url = typeof given === "string" && /^[^/?#@,\s]+$/.test(given) ? `amqp://${given}` : "";
  const parts = URL.canParse(url) ? new URL(url) : undefined;
  const host = parts?.hostname.replace(/^\[|\]$/g, "");
  if (parts === undefined || host === undefined || host === "" || parts.port === "0") {
    throw invalid("takes hosts such as a.example.com or a.example.com:5673, as host or with commas in its url");
  }
  return { host, port: parts.port === "" ? undefined : Number(parts.port) };
}

function credentials(
  hosts: readonly string[],
  username: string | undefined,
  password: string | RabbitMQPasswordProvider | undefined,
): { username: string; password: string | RabbitMQPasswordProvider } {
  if (password !== undefined && typeof password !== "string" && typeof password !== "function") {
    throw invalid("takes a text or a function as password");
  }
  if (username !== undefined && password !== undefined) return { username, password };
  if (username !== undefined || password !== undefined) {
    throw invalid("needs both username and password, in the url or as options");
  }
  const away = hosts.find((host) => !LOOPBACK.test(host));
  if (away === undefined) return { username: "guest", password: "guest" };
  throw invalid(
    `needs credentials for host "${away}": give username and password, in the url or as options; ` +
      "the guest account is assumed on this machine alone",
  );
}

function checkTls(tls: ConnectionOptions | undefined): ConnectionOptions | undefined {
  if (tls === undefined) return undefined;
  if (typeof tls !== "object" || tls === null) throw invalid("takes an object as tls");
  if (tls.rejectUnauthorized === false) {
    throw invalid("always verifies the server's certificate; give the authority that signed it as tls.ca");
  }
  return tls;
}

function checkArguments(
  given: Readonly<Record<string, string | number | boolean>>,
): Readonly<Record<string, string | number | boolean>> {
  for (const [name, value] of Object.entries(given)) {
    if (OWN_ARGUMENTS.includes(name)) throw invalid(`sets the queue argument ${name} itself; leave it out`);
    if (!["string", "number", "boolean"].includes(typeof value)) {
      throw invalid(`takes texts, numbers and booleans as queue arguments; ${name} is none`);
    }
  }
  return { ...given };
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${problem}`);
}
