import { createRequire } from "node:module";
import type createOAuthBearer from "kafkajs/src/broker/saslAuthenticator/oauthBearer.js";
import type Connection from "kafkajs/src/network/connection.js";
import type { Logger } from "kafkajs/src/network/connection.js";
import type createSocketFactory from "kafkajs/src/network/socketFactory.js";
import type Encoder from "kafkajs/src/protocol/encoder.js";
import type errors from "kafkajs/src/protocol/error.js";
import { MessagingError } from "../../../core/errors.ts";

/** The supported versions of kafkajs: the peer range in `package.json`. */
export const SUPPORTED_VERSIONS = "~2.2.4";

/** Logs nothing: kafkajs' own logger takes its level from the environment. */
export const SILENT: Logger = {
  namespace: () => SILENT,
  error: () => undefined,
  warn: () => undefined,
  info: () => undefined,
  debug: () => undefined,
};

/** The parts of kafkajs that are not in its public interface. */
interface Internals {
  readonly Connection: typeof Connection;
  readonly Encoder: typeof Encoder;
  readonly createSocketFactory: typeof createSocketFactory;
  readonly createOAuthBearer: typeof createOAuthBearer;
  readonly errorCodes: (typeof errors)["errorCodes"];
}

const CONNECTION = "src/network/connection.js";
const ENCODER = "src/protocol/encoder.js";
const SOCKET_FACTORY = "src/network/socketFactory.js";
const OAUTH_BEARER = "src/broker/saslAuthenticator/oauthBearer.js";
const ERRORS = "src/protocol/error.js";

const CONNECTION_METHODS = [
  "processData",
  "connect",
  "authenticate",
  "setVersions",
  "setSupportAuthenticationProtocol",
  "send",
];
const QUEUE_METHODS = ["scheduleCheckPendingRequests", "fulfillRequest"];
const ENCODER_METHODS = [
  "writeInt8",
  "writeInt16",
  "writeInt32",
  "writeInt64",
  "writeBoolean",
  "writeString",
  "writeBytes",
  "writeBuffer",
  "writeUVarInt",
  "writeUVarIntString",
  "writeUVarIntBytes",
];

/** Loads the parts and checks them. Throws `unsupported`, with the versions found and expected, if one is not as expected. */
export function loadInternals(load: (path: string) => unknown): Internals {
  const part = <Part>(path: string, faultOf: (part: Part) => string | undefined): Part => {
    let fault: string | undefined;
    try {
      const loaded = load(`kafkajs/${path}`) as Part;
      fault = faultOf(loaded);
      if (fault === undefined) return loaded;
    } catch (cause) {
      throw unsupported(load, `${path} cannot be used`, cause);
    }
    throw unsupported(load, `${path} has no ${fault}`);
  };
  return {
    Connection: part(CONNECTION, (Loaded: typeof Connection) => connectionFault(Loaded)),
    Encoder: part(ENCODER, (Loaded: typeof Encoder) => {
      const encoder = new Loaded(1);
      return missingMethod(encoder, ENCODER_METHODS) ?? (Buffer.isBuffer(encoder.buffer) ? undefined : "buffer");
    }),
    createSocketFactory: part(SOCKET_FACTORY, (create: typeof createSocketFactory) =>
      typeof create() === "function" ? undefined : "socket factory",
    ),
    createOAuthBearer: part(OAUTH_BEARER, (create: typeof createOAuthBearer) => {
      const sasl = { mechanism: "oauthbearer", oauthBearerProvider: async () => ({ value: "" }) } as const;
      return missingMethod(create(sasl)({ saslAuthenticate: async () => {} }), ["authenticate"]);
    }),
    errorCodes: part(ERRORS, ({ errorCodes }: typeof errors) => {
      const known = errorCodes.some(({ type, code }) => type === "OFFSET_OUT_OF_RANGE" && code === 1);
      return known ? undefined : "error codes";
    }).errorCodes,
  };
}

function connectionFault(Loaded: typeof Connection): string | undefined {
  const connection = new Loaded({
    host: "localhost",
    port: 9092,
    clientId: "anybroker",
    logger: SILENT,
    socketFactory: () => {
      throw new Error("this connection is never opened");
    },
    ssl: undefined,
    sasl: undefined,
    connectionTimeout: 1,
    requestTimeout: 1,
    enforceRequestTimeout: false,
  });
  const missing = missingMethod(connection, CONNECTION_METHODS);
  if (missing !== undefined) return missing;
  const { requestQueue } = connection;
  return missingMethod(requestQueue, QUEUE_METHODS) ?? (requestQueue.inflight instanceof Map ? undefined : "inflight");
}

function missingMethod(part: object, names: readonly string[]): string | undefined {
  return names.find((name) => typeof (part as Readonly<Record<string, unknown>>)[name] !== "function");
}

function unsupported(load: (path: string) => unknown, fault: string, cause?: unknown): MessagingError {
  let version = "of an unknown version";
  try {
    version = (load("kafkajs/package.json") as { readonly version: string }).version;
  } catch {
    // The error says what is known.
  }
  const text = `kafkajs ${version} is not supported: ${fault}; install kafkajs@${SUPPORTED_VERSIONS}`;
  return new MessagingError("unsupported", text, { cause });
}

/** The parts of the installed kafkajs, checked when this module is loaded. */
export const internals: Internals = loadInternals(createRequire(import.meta.url));
