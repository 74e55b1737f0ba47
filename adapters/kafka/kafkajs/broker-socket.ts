import type { Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";
import type { SASLOptions } from "kafkajs";
import type { AuthenticationProvider } from "kafkajs/src/broker/saslAuthenticator/oauthBearer.js";
import type Connection from "kafkajs/src/network/connection.js";
import type { ApiVersions } from "kafkajs/src/network/connection.js";
import { MessagingError } from "../../../core/errors.ts";
import type { ErrorName } from "../port.ts";
import { apiVersions, metadata } from "./cluster-exchanges.ts";
import {
  type Address,
  addressAdvice,
  brokenError,
  connectError,
  describeBroker,
  garbledError,
  loginError,
  unansweredError,
} from "./errors.ts";
import { AnswerReader, type Exchange, loadOf, skipTags, writeTags } from "./exchange.ts";
import { guard } from "./guarded-connection.ts";
import { internals, SILENT } from "./internals.ts";
import { fetch } from "./log-exchanges.ts";

/** How sockets are opened, and their timeouts. */
export interface SocketSettings {
  readonly clientId: string;
  readonly tls: ConnectionOptions | undefined;
  readonly sasl: SASLOptions | undefined;
  readonly connectionTimeoutMs: number;
  readonly requestTimeoutMs: number;
}

const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * One socket to one broker: kafkajs' connection for frames, TLS and SASL, with our own timeouts. After a failure or
 * timeout it is unusable, and its pending requests are rejected.
 */
export class BrokerSocket {
  readonly #settings: SocketSettings;
  readonly #opened: Promise<Opened>;
  readonly #underWay = new Set<(error: MessagingError) => void>();
  readonly #closed = Promise.withResolvers<void>();
  readonly #onEnd: () => void;
  #isOpen = false;
  #isConnected = false;
  /** Whether the broker answered a request that not every client may send. */
  #isAnswered = false;
  /** Whether a token provider was called and has not answered. */
  #isTokenAwaited = false;
  /** The server's error in the last login step. */
  #refusal: ErrorName;
  #refreshing: Promise<void> | undefined;
  #ended: MessagingError | undefined;
  #socket: Socket | undefined;
  #load = 0;
  #isRetired = false;
  /** When the last answer came, by `performance.now()`; undefined before it is open. */
  #idleSince: number | undefined;
  /** Until when the server ignores this socket because of a quota, by the same clock. */
  #mutedUntil = 0;

  /** Opens the socket. `locate` finds the address. `onEnd` is called once, when it is unusable. */
  constructor(settings: SocketSettings, locate: () => Promise<Address>, onEnd: () => void) {
    this.#settings = settings;
    this.#onEnd = onEnd;
    this.#opened = this.#open(locate);
    // Callers of `opened` see the rejection.
    this.#opened.catch(() => undefined);
  }

  get isOpen(): boolean {
    return this.#isOpen && this.#ended === undefined;
  }

  /** The number of pending requests. A request that the server may hold back counts for many. */
  get load(): number {
    return this.#load;
  }

  /** For how many milliseconds no request was pending. */
  get idleMs(): number {
    return this.#load > 0 || this.#idleSince === undefined ? 0 : performance.now() - this.#idleSince;
  }

  /** Whether it accepts no more requests. */
  get isRetired(): boolean {
    return this.#isRetired;
  }

  /** Accepts no more requests, and closes after the last answer. */
  retire(): void {
    this.#isRetired = true;
    if (this.#load === 0) this.#end(new MessagingError("unreachable", "this socket to Kafka was closed as needless"));
  }

  /** Resolves when the broker has accepted the connection. */
  async opened(): Promise<void> {
    await this.#opened;
  }

  /** The broker's address, once it is open. */
  async address(): Promise<Address> {
    return (await this.#opened).address;
  }

  /** Sends a request, in the order of calls. Rejects with `unreachable`, `timeout`, `unauthorized` or `unsupported`. */
  async ask<Answer>(exchange: Exchange<Answer>): Promise<Answer> {
    const load = loadOf(exchange);
    this.#load += load;
    try {
      const opened = await this.#opened;
      const { later } = exchange;
      // Asks for the versions again before it refuses: a wrong answer once must not block the socket for good.
      if (!supports(opened.versions, exchange) && !(later && supports(opened.versions, later)))
        await this.#refreshVersions(opened);
      const { address, connection, versions } = opened;
      if (later !== undefined && supports(versions, later)) return await this.#send(later, address, connection);
      if (!supports(versions, exchange)) throw unsupportedRequest(exchange, address, versions);
      return await this.#send(exchange, address, connection);
    } finally {
      this.#load -= load;
      if (this.#idleSince !== undefined) this.#idleSince = performance.now();
      if (this.#isRetired) this.retire();
    }
  }

  /** Asks for the server's versions again, once for all callers. */
  #refreshVersions(opened: Opened): Promise<void> {
    this.#refreshing ??= this.#send(apiVersions(), opened.address, opened.connection)
      .then(({ error, versions }) => {
        if (error === undefined) opened.versions = versions;
      })
      .finally(() => {
        this.#refreshing = undefined;
      });
    return this.#refreshing;
  }

  /**
   * Closes the socket and rejects pending requests with `error`. Resolves when it is closed. A second call only waits.
   */
  async end(error: MessagingError): Promise<void> {
    this.#end(error);
    await this.#closed.promise;
  }

  #end(error: MessagingError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    for (const reject of this.#underWay) reject(error);
    this.#underWay.clear();
    // Only with an error does kafkajs clear its timer.
    if (this.#socket === undefined) this.#closed.resolve();
    else this.#socket.destroy(new Error("closed by the client"));
    this.#onEnd();
  }

  async #open(locate: () => Promise<Address>): Promise<Opened> {
    try {
      const address = await this.#unlessEnded(locate());
      const timer = setTimeout(() => this.#end(this.#openingTimeout(address)), this.#settings.connectionTimeoutMs);
      try {
        return await this.#unlessEnded(this.#handshake(address));
      } finally {
        clearTimeout(timer);
      }
    } catch (error) {
      const failed = error as MessagingError;
      this.#end(failed);
      throw this.#ended ?? failed;
    }
  }

  #openingTimeout(address: Address): MessagingError {
    const what = `${describeBroker(address)} did not let us in within ${this.#settings.connectionTimeoutMs} ms`;
    if (this.#isTokenAwaited) {
      const why = "the function given as oauthBearerProvider has given no token; see whether it can reach what it asks";
      return new MessagingError("unreachable", `${what}: ${why}`);
    }
    const advice = address.namedBy === undefined ? "check that it runs and is not overloaded" : addressAdvice(address);
    return new MessagingError("unreachable", `${what}; ${advice}`);
  }

  async #handshake(address: Address): Promise<Opened> {
    if (this.#ended !== undefined) throw this.#ended;
    const { sasl } = this.#settings;
    const connection = this.#connectionTo(address);
    await connection.connect().catch((error: unknown) => {
      throw connectError(error, address);
    });
    this.#isConnected = true;
    const { error, versions } = await this.#send(apiVersions(), address, connection);
    if (error !== undefined) throw unsupportedRequest(apiVersions(), address, {});
    for (const needed of NEEDED) if (!supports(versions, needed)) throw unsupportedRequest(needed, address, versions);
    connection.setVersions(versions);
    if (sasl !== undefined) {
      // A login needs it.
      if (!supports(versions, SASL_AUTHENTICATE)) throw unsupportedRequest(SASL_AUTHENTICATE, address, versions);
      connection.setSupportAuthenticationProtocol(true);
      await connection.authenticate().catch((error: unknown) => {
        throw loginError(error, address, sasl, this.#refusal);
      });
    }
    this.#isOpen = true;
    this.#idleSince = performance.now();
    return { address, connection, versions };
  }

  #connectionTo(address: Address): Connection {
    const { clientId, tls, sasl, connectionTimeoutMs, requestTimeoutMs } = this.#settings;
    const openSocket = internals.createSocketFactory();
    const connection = new internals.Connection({
      host: address.host,
      port: address.port,
      clientId,
      logger: SILENT,
      ssl: tls,
      sasl: sasl && credentials(sasl, (isAsked) => (this.#isTokenAwaited = isAsked)),
      connectionTimeout: connectionTimeoutMs,
      requestTimeout: requestTimeoutMs,
      // Our timeouts apply: kafkajs' keep the socket open, and report a late login as a refused one.
      enforceRequestTimeout: false,
      socketFactory: (request) => {
        const socket = openSocket(request);
        this.#socket = socket;
        socket.setNoDelay(true);
        const broke = (reason: unknown): void =>
          this.#end(this.#isConnected ? this.#broken(address, reason) : connectError(reason, address));
        socket.once("error", broke);
        socket.once("end", () => broke(new Error("the broker closed the connection")));
        socket.once("close", () => {
          broke(new Error("the connection was closed"));
          this.#closed.resolve();
        });
        return socket;
      },
    });
    // kafkajs' timer is for queued requests. None are queued: in-flight requests are not limited, and the broker
    // throttles. With a negative time, the timer would make Node print a warning.
    connection.requestQueue.scheduleCheckPendingRequests = () => undefined;
    guard(connection, {
      isOpen: () => this.#isOpen,
      garbled: (cause) => this.#end(garbledError(address, cause, this.#isOpen)),
      answered: (refusal) => (this.#refusal = refusal),
    });
    return connection;
  }

  #send<Answer>(exchange: Exchange<Answer>, address: Address, connection: Connection): Promise<Answer> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const { name, key, version, flexible = false, waitMs = 0, size } = exchange;
    const body = new internals.Encoder(size);
    // kafkajs writes the header without its tags.
    if (flexible) writeTags(body);
    exchange.write(body);
    const mutedMs = Math.max(0, Math.ceil(this.#mutedUntil - performance.now()));
    const ms = Math.min(mutedMs + waitMs + this.#settings.requestTimeoutMs, MAX_TIMER_MS);
    const timeout = (): void => {
      this.#end(
        new MessagingError(
          "timeout",
          `${describeBroker(address)} did not answer ${name} within ${ms} ms; it may have been done; the connection is made anew`,
        ),
      );
    };
    const timer = setTimeout(timeout, ms);
    if (this.#underWay.size > 0) this.#gather();
    const answer = connection.send({
      request: { apiKey: key, apiVersion: version, apiName: name, encode: () => body },
      response: { decode: (payload) => payload, parse: (payload) => payload },
    });
    const read = answer.then(
      (payload) => {
        const from = new AnswerReader(payload);
        if (flexible) skipTags(from);
        const result = exchange.read(from);
        // A server reports its versions before any login, so that answer does not count.
        if (key !== API_VERSIONS) this.#isAnswered = true;
        if (from.throttledMs > 0) this.#mutedUntil = performance.now() + from.throttledMs;
        return result;
      },
      (error: unknown) => Promise.reject(this.#sendError(error, address)),
    );
    return this.#unlessEnded(read)
      .catch((error: unknown) => {
        // After an unreadable answer the socket is unusable.
        this.#end(error instanceof MessagingError ? error : garbledError(address, error, this.#isOpen));
        throw this.#ended ?? error;
      })
      .finally(() => clearTimeout(timer));
  }

  /** Sends the requests of this turn together, such as the heartbeats of many groups. */
  #gather(): void {
    const socket = this.#socket;
    if (socket === undefined || socket.writableCorked > 0) return;
    socket.cork();
    setImmediate(() => socket.uncork());
  }

  /** Servers close without an answer before a login, and if a login is missing. */
  #broken(address: Address, reason: unknown): MessagingError {
    const { tls, sasl } = this.#settings;
    const isIn = this.#isOpen && sasl !== undefined;
    if (isIn || this.#isAnswered) return brokenError(address, reason);
    return unansweredError(address, reason, { tls: tls !== undefined, sasl: sasl !== undefined, isOpen: this.#isOpen });
  }

  /** kafkajs logs in again before a session expires, within the next request. */
  #sendError(error: unknown, address: Address): MessagingError {
    const { sasl } = this.#settings;
    const isOfConnection = error instanceof Error && error.name.startsWith("KafkaJSConnection");
    if (sasl === undefined || isOfConnection) return this.#broken(address, error);
    return loginError(error, address, sasl, this.#refusal);
  }

  /** Settles as `work` does, or rejects when the socket ends. */
  #unlessEnded<Result>(work: Promise<Result>): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    if (this.#ended !== undefined) reject(this.#ended);
    this.#underWay.add(reject);
    work.then(resolve, reject).finally(() => this.#underWay.delete(reject));
    return promise;
  }
}

/** The state of an open socket. */
interface Opened {
  readonly address: Address;
  readonly connection: Connection;
  versions: ApiVersions;
}

/** How servers identify a request. */
type RequestVersion = Pick<Exchange<unknown>, "name" | "key" | "version">;

/** Required requests: without topic ids, a position could be applied to another topic's log. */
const NEEDED: readonly RequestVersion[] = [
  metadata([]),
  fetch({ maxWaitMs: 0, minBytes: 0, maxBytes: 0, partitions: [] }),
];

const SASL_AUTHENTICATE: RequestVersion = { name: "SaslAuthenticate", key: 36, version: 0 };

const API_VERSIONS = 18;

function supports(versions: ApiVersions, { key, version }: RequestVersion): boolean {
  const spoken = versions[key];
  return spoken !== undefined && version >= spoken.minVersion && version <= spoken.maxVersion;
}

function unsupportedRequest(
  { name, key, version }: RequestVersion,
  address: Address,
  versions: ApiVersions,
): MessagingError {
  const spoken = versions[key];
  const range = spoken === undefined ? "not at all" : `in versions ${spoken.minVersion} to ${spoken.maxVersion}`;
  return new MessagingError(
    "unsupported",
    `${describeBroker(address)} speaks ${name} ${range}, and not in version ${version}; use Kafka 3.1 or later`,
  );
}

/**
 * Copies the credentials for a kafkajs connection, which stores state in them. For OAUTHBEARER it also checks the
 * server's answer: kafkajs accepts any answer, but a challenge means refusal. `asks` reports when the token provider is
 * called and when it has answered.
 */
function credentials(
  sasl: SASLOptions,
  asks: (isAsked: boolean) => void,
): SASLOptions & { readonly authenticationProvider?: AuthenticationProvider } {
  if (!("oauthBearerProvider" in sasl)) return { ...sasl };
  const oauthBearerProvider = async () => {
    asks(true);
    const token = await sasl.oauthBearerProvider();
    asks(false);
    return token;
  };
  const withoutLook = internals.createOAuthBearer({ ...sasl, oauthBearerProvider });
  const authenticationProvider: AuthenticationProvider = ({ saslAuthenticate, ...given }) =>
    withoutLook({
      ...given,
      saslAuthenticate: ({ request }) =>
        saslAuthenticate({ request, response: { decode: (answer) => answer, parse: refuseChallenge } }),
    });
  return { ...sasl, authenticationProvider };
}

/** kafkajs keeps the length prefix of the answer. */
function refuseChallenge(answer: Buffer): void {
  if (answer.length > 4) throw new Error("the server refused the token");
}
