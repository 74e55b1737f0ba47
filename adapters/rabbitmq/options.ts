import { isIP } from "node:net";
import type { ConnectionOptions } from "node:tls";
import { checkInteger, checkOptions, optionalText } from "../../core/checks.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { Redactor } from "./redactor.ts";

/**
 * The order in which hosts are tried. All connections of an adapter use one host while it serves, so that declarations
 * of one connection exist for the others at once.
 */
export class Hosts {
  readonly #random: () => number;
  #order: readonly Place[];
  #current: Place | undefined;

  constructor(all: readonly Place[], random: () => number = Math.random) {
    this.#random = random;
    this.#order = this.#shuffled(all);
  }

  /** The current host first, then the others in random order, and the one that was lost last. */
  order(): readonly Place[] {
    const current = this.#current;
    return current === undefined ? this.#order : [current, ...this.#order.filter((place) => place !== current)];
  }

  connected(place: Place): void {
    this.#current = place;
  }

  /** A connection to this host was lost or could not be opened. */
  lost(place: Place): void {
    if (this.#current === place) this.#current = undefined;
    // Each lost connection reports it; the second report must not change the order again.
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

/** A host for error messages. */
export function placeText({ host, port }: Place): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** All hosts for error messages. */
export function placesText({ hosts }: Pick<Settings, "hosts">): string {
  return hosts.map(placeText).join(", ");
}

/** The options of {@link rabbitmq}. Only credentials have no default, if a host is remote. */
export interface RabbitMQOptions {
  /**
   * `amqp://user:password@host:5672/vhost`, or `amqps:`. For a cluster, list hosts:
   * `amqp://user:password@a:5672,b,c/vhost`. The options `host`, `port`, `username`, `password` and `vhost` override
   * the URL. Query parameters are refused.
   */
  readonly url?: string;
  /** For a cluster, a list: `["a", "b:5673"]`. Tried in random order at start and after a loss. Default `localhost`. */
  readonly host?: string | readonly string[];
  /** The port of hosts without one. Default 5672, or 5671 with TLS. */
  readonly port?: number;
  /** Required for remote hosts. Default on this machine: RabbitMQ's `guest`. */
  readonly username?: string;
  /**
   * A password, or a function that returns a password or token that expires. The function is called at each login of
   * both connections. Before a token expires, it is called again, and the server gets the new token without a
   * reconnect. If the function rejects, the login fails as `unauthorized`, with the rejection as `cause`.
   */
  readonly password?: string | RabbitMQPasswordProvider;
  /** Default `/`. */
  readonly vhost?: string;
  /**
   * Encrypts the connection, even if it is `{}`. Passed to Node's `tls.connect`: `ca`, `cert`, `key`, `servername` and
   * so on. The server's certificate is always verified; `rejectUnauthorized: false` is refused.
   */
  readonly tls?: ConnectionOptions;
  /** Seconds between heartbeats, 1 to 60. A peer that is silent for two to three of them counts as dead. Default 10. */
  readonly heartbeatSeconds?: number;
  /** Milliseconds for one attempt to connect, including the handshake. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /**
   * Milliseconds for the broker's answer to a request other than a publish. After that, the connection counts as dead
   * and is opened again. Default 30,000.
   */
  readonly requestTimeoutMs?: number;
  /**
   * Milliseconds to wait between attempts to reconnect: the first wait, doubled up to the longest, with random jitter.
   * The attempts never end. Default 100 and 3,000.
   */
  readonly reconnect?: { readonly firstMs?: number; readonly maxMs?: number };
  /**
   * How often RabbitMQ redelivers a message of a declared queue before it dead-letters the message. This catches
   * messages that crash a consumer before the retry policy can act. Default 100. Ordered destinations get ten times as
   * many, because a lost connection counts for all messages that their one consumer has prefetched.
   */
  readonly deliveryLimit?: number;
  /**
   * How long RabbitMQ lets a consumer hold a delivery, in milliseconds. From 4.3 on, consumers request this time, and
   * it overrides rabbitmq.conf and policies; default 2,147,483,647 (24.8 days). Before 4.3, set it to the server's
   * `consumer_timeout`; default 1,800,000, as in RabbitMQ. Deliveries are requeued before this time ends. So a longer
   * `timeoutMs` of an unordered destination is refused at start.
   */
  readonly consumerTimeoutMs?: number;
  /**
   * More arguments for declared work queues, such as `{ "x-quorum-initial-group-size": 5 }`. Arguments that anybroker
   * sets are refused. A queue keeps its arguments: a changed value is a `conflict` at the next start, so prefer
   * policies.
   */
  readonly queueArguments?: Readonly<Record<string, string | number | boolean>>;
  /**
   * The URL of RabbitMQ's management API, such as `https://host:15671`. It is used with the login and the `tls` options
   * of the connection; the user needs a tag such as `management`. With it, a start finds policies that would lose
   * messages (`conflict`) or change how anybroker works (event `notice`): AMQP does not show policies. Default:
   * policies are not checked.
   */
  readonly managementUrl?: string;
  /** The connection name in the management UI, followed by `publish` or `consume`. Default `anybroker`. */
  readonly connectionName?: string;
}

/**
 * Returns the password or a token. The expiry comes from `expiresAt` or from a JSON Web Token itself. Without either,
 * the function is called again only when the server closes the connection.
 */
export type RabbitMQPasswordProvider = () => RabbitMQPassword | Promise<RabbitMQPassword>;

/** A password or token for the login. */
export type RabbitMQPassword = string | { readonly value: string; readonly expiresAt?: Date };

/** The checked options with defaults. */
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
  /** Without a trailing slash. */
  readonly managementUrl: string | undefined;
  /** Redacts the texts of the server. Shared by all connections of an adapter. */
  readonly redactor: Redactor;
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
/** A host of the cluster. */
export interface Place {
  readonly host: string;
  readonly port: number;
}

/** Matches hosts of this machine. */
export const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** Checks the options and applies defaults. Throws `invalid`; the error never contains the password. */
export function resolveOptions(options: RabbitMQOptions): Settings {
  checkOptions(WHERE, options, OPTIONS);
  const place = options.url === undefined ? undefined : parseUrl(options.url);
  const tls = checkTls(options.tls) ?? (place?.encrypted ? {} : undefined);
  if (place?.encrypted === false && options.tls !== undefined) {
    throw invalid("got tls options with an amqp: URL; write amqps: to encrypt, or remove the tls options");
  }
  if (options.port !== undefined) checkInteger(`${WHERE} { port }`, options.port, 1, 65_535);
  const [ofUrl, ...more] = place?.hosts ?? [];
  const defaultPort =
    options.port ?? (more.length === 0 ? ofUrl?.port : undefined) ?? (tls === undefined ? 5672 : 5671);
  const given = options.host === undefined ? (place?.hosts ?? []) : hostsIn(options.host);
  const hosts = (given.length === 0 ? [{ host: "localhost", port: undefined }] : given).map(({ host, port }) => ({
    host,
    // The option overrides the port of a URL, but not the port of a host in the options.
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
    vhost: shortText("vhost", options.vhost) ?? shortText("vhost", place?.vhost) ?? "/",
    tls,
    heartbeatSeconds: options.heartbeatSeconds ?? 10,
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    requestTimeoutMs: options.requestTimeoutMs ?? 30_000,
    reconnectFirstMs: reconnect.firstMs ?? 100,
    reconnectMaxMs: reconnect.maxMs ?? Math.max(3_000, reconnect.firstMs ?? 0),
    deliveryLimit: options.deliveryLimit ?? 100,
    consumerTimeoutMs: options.consumerTimeoutMs,
    queueArguments: checkArguments(options.queueArguments ?? {}),
    connectionName: shortText("connectionName", options.connectionName) ?? "anybroker",
    managementUrl: managementUrl(options.managementUrl),
    redactor: new Redactor(login.username),
  };
  checkInteger(`${WHERE} { heartbeatSeconds }`, settings.heartbeatSeconds, 1, 60);
  checkInteger(`${WHERE} { connectTimeoutMs }`, settings.connectTimeoutMs, 1, MAX_TIMEOUT_MS);
  checkInteger(`${WHERE} { requestTimeoutMs }`, settings.requestTimeoutMs, 1, MAX_TIMEOUT_MS);
  checkInteger(`${WHERE} { reconnect.firstMs }`, settings.reconnectFirstMs, 1, MAX_TIMEOUT_MS);
  checkInteger(`${WHERE} { reconnect.maxMs }`, settings.reconnectMaxMs, settings.reconnectFirstMs, MAX_TIMEOUT_MS);
  checkInteger(`${WHERE} { deliveryLimit }`, settings.deliveryLimit, 1);
  if (settings.consumerTimeoutMs !== undefined) {
    checkInteger(`${WHERE} { consumerTimeoutMs }`, settings.consumerTimeoutMs, 1_000, MAX_TIMEOUT_MS);
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
    throw invalid("takes a managementUrl without login and parameters; it uses the login of the connection");
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
}

/** A host, with its port if given. */
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

/** Parses the URL. Errors quote nothing of it, because any part of a malformed URL may contain the password. */
function parseUrl(given: string): ReadUrl {
  const [, before = "", hosts = "", after = ""] = typeof given === "string" ? (AUTHORITY.exec(given) ?? []) : [];
  // Node's parser takes only one host.
  const [first = ""] = hosts.split(",");
  const url = `${before}${first}${after}`;
  const parts = URL.canParse(url) ? new URL(url) : undefined;
  if (parts === undefined || (parts.protocol !== "amqp:" && parts.protocol !== "amqps:")) {
    throw invalid("takes a url such as amqp://user:password@host:5672/vhost or amqps://…; special characters encoded");
  }
  if (parts.search !== "" || parts.hash !== "") {
    throw invalid("takes no parameters in its url; set heartbeatSeconds, connectTimeoutMs and the others as options");
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

/** The parts before the hosts, the hosts, and the rest. */
const AUTHORITY = /^([a-z]+:(?:\/\/)?(?:[^/?#]*@)?)([^/?#@]*)(.*)$/is;

function hostsIn(given: string | readonly string[]): readonly NamedHost[] {
  const list = typeof given === "string" ? [given] : given;
  if (!Array.isArray(list) || list.length === 0)
    throw invalid("takes a string or a list of strings as host, none of them empty");
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
    throw invalid("takes a string or a function as password");
  }
  if (username !== undefined && password !== undefined) return { username, password };
  if (username !== undefined || password !== undefined) {
    throw invalid("needs both username and password, in the url or as options");
  }
  const away = hosts.find((host) => !LOOPBACK.test(host));
  if (away === undefined) return { username: "guest", password: "guest" };
  throw invalid(
    `needs credentials for host "${away}": give username and password, in the url or as options; ` +
      "the guest account is the default on this machine only",
  );
}

function checkTls(tls: ConnectionOptions | undefined): ConnectionOptions | undefined {
  if (tls === undefined) return undefined;
  if (typeof tls !== "object" || tls === null) throw invalid("takes an object as tls");
  if (tls.rejectUnauthorized === false) {
    throw invalid("always verifies the server's certificate; set tls.ca to the authority that signed it");
  }
  return tls;
}

/** AMQP's limit for names. */
const MAX_SHORT_BYTES = 255;
/** amqplib encodes no more than 64 KiB of arguments, with anybroker's own. */
const MAX_ARGUMENT_BYTES = 32_768;

function shortText(name: string, given: string | undefined): string | undefined {
  const text = optionalText(WHERE, name, given);
  if (text === undefined || (Buffer.byteLength(text) <= MAX_SHORT_BYTES && text.isWellFormed())) return text;
  throw invalid(`takes a ${name} of at most ${MAX_SHORT_BYTES} bytes, without lone surrogates`);
}

function checkArguments(
  given: Readonly<Record<string, string | number | boolean>>,
): Readonly<Record<string, string | number | boolean>> {
  if (typeof given !== "object" || Array.isArray(given)) throw invalid("takes an object as queueArguments");
  let bytes = 0;
  for (const [name, value] of Object.entries(given)) {
    if (Buffer.byteLength(name) > MAX_SHORT_BYTES) {
      throw invalid(`takes queueArguments with names of at most ${MAX_SHORT_BYTES} bytes`);
    }
    if (OWN_ARGUMENTS.includes(name)) throw invalid(`sets the queue argument ${name} itself; remove it`);
    const isPossible =
      typeof value === "number" ? Number.isFinite(value) : ["string", "boolean"].includes(typeof value);
    if (!isPossible) {
      throw invalid(`takes strings, finite numbers and booleans as queueArguments; ${name} is none of them`);
    }
    bytes += Buffer.byteLength(name) + Buffer.byteLength(String(value));
  }
  if (bytes > MAX_ARGUMENT_BYTES) throw invalid(`takes queueArguments of at most ${MAX_ARGUMENT_BYTES} bytes together`);
  return { ...given };
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${problem}`);
}
