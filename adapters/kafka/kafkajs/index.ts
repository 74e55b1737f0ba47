import { type ConnectionOptions, createSecureContext } from "node:tls";
import type { SASLOptions } from "kafkajs";
import { checkInteger } from "../../../core/checks.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { KafkaClient } from "../port.ts";
import { ClusterConnection } from "./cluster-connection.ts";
import type { Address } from "./errors.ts";
import { SocketPool } from "./socket-pool.ts";

/** The brokers and how to connect to them. */
export interface KafkaJsConfiguration {
  /** Some of the brokers, as `host:port` or `[::1]:port`, tried in turn; the first to answer names all others. */
  readonly brokers: readonly string[];
  /** Our name in the brokers' logs and quotas. */
  readonly clientId: string;
  /** `true` or options of Node's `tls.connect`, to encrypt. */
  readonly ssl?: boolean | ConnectionOptions;
  /** Credentials as kafkajs takes them. */
  readonly sasl?: SASLOptions;
  /** Milliseconds for opening a socket, with TLS and login. */
  readonly connectionTimeoutMs: number;
  /** Milliseconds for an answer, in addition to the waiting time that was asked of the server. */
  readonly requestTimeoutMs: number;
}

const BROKER = /^(?:\[(?<literal>[0-9A-Fa-f:.]+)\]|(?<name>[A-Za-z0-9._-]+)):(?<port>\d{1,5})$/;
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** Creates a client over kafkajs' connections. Throws `invalid`. Opens nothing yet. */
export function kafkaJsClient(configuration: KafkaJsConfiguration): KafkaClient {
  const { brokers, clientId, ssl, sasl, connectionTimeoutMs, requestTimeoutMs } = configuration;
  if (!Array.isArray(brokers) || brokers.length === 0) throw invalid("takes one broker or more");
  const seeds = brokers.map(parseBroker);
  if (typeof clientId !== "string" || clientId.length > 1_000) throw invalid("takes a short text as clientId");
  checkInteger("Kafka { connectionTimeoutMs }", connectionTimeoutMs, 1, MAX_TIMEOUT_MS);
  checkInteger("Kafka { requestTimeoutMs }", requestTimeoutMs, 1, MAX_TIMEOUT_MS);
  const settings = { clientId, tls: secured(ssl), sasl, connectionTimeoutMs, requestTimeoutMs };
  const pool = new SocketPool(settings, seeds);
  return { connection: () => new ClusterConnection(pool) };
}

/** The error does not quote the input, which may hold a password. */
function parseBroker(broker: unknown, index: number): Address {
  const { literal, name, port } = (typeof broker === "string" ? BROKER.exec(broker)?.groups : undefined) ?? {};
  const host = literal ?? name;
  if (host === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw invalid(`takes each broker as host:port or [::1]:port, which number ${index + 1} is not`);
  }
  return { host, port: Number(port) };
}

/** Reads keys and certificates once, where errors can be reported. */
function secured(ssl: boolean | ConnectionOptions | undefined): ConnectionOptions | undefined {
  if (ssl === undefined || ssl === false) return undefined;
  const options = ssl === true ? {} : ssl;
  try {
    return { ...options, secureContext: options.secureContext ?? createSecureContext(options) };
  } catch (error) {
    // Without a cause: Node quotes its input.
    const { code = "unknown" } = error as { readonly code?: string };
    throw invalid(
      `cannot use the TLS key, certificate or passphrase given (${code}); check that they are PEM and match`,
    );
  }
}

function invalid(message: string): MessagingError {
  return new MessagingError("invalid", `Kafka ${message}`);
}
