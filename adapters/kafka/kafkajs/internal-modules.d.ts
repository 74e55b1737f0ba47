// Types for the parts of kafkajs 2.2 that its own types leave out. Not shipped: no exported signature outside this
// folder may use these types.

declare module "kafkajs/src/protocol/encoder.js" {
  export default class Encoder {
    constructor(initialSize?: number);
    writeInt8(value: number): this;
    writeInt16(value: number): this;
    writeInt32(value: number): this;
    writeInt64(value: number | bigint): this;
    writeBoolean(value: boolean): this;
    writeString(value: string | null): this;
    writeBytes(value: Buffer): this;
    writeBuffer(value: Buffer): this;
    writeUVarInt(value: number): this;
    writeUVarIntString(value: string | null): this;
    writeUVarIntBytes(value: Buffer): this;
    readonly buffer: Buffer;
  }
}

declare module "kafkajs/src/protocol/error.js" {
  const errors: { readonly errorCodes: readonly { readonly type: string; readonly code: number }[] };
  export default errors;
}

declare module "kafkajs/src/broker/saslAuthenticator/oauthBearer.js" {
  import type { SASLOptions } from "kafkajs";

  export interface SaslExchange {
    readonly request: object;
    readonly response?: { readonly decode: (answer: Buffer) => Buffer; readonly parse: (answer: Buffer) => void };
  }
  export type AuthenticationProvider = (given: {
    readonly saslAuthenticate: (exchange: SaslExchange) => Promise<void>;
  }) => { authenticate(): Promise<void> };
  export default function createOAuthBearer(sasl: SASLOptions): AuthenticationProvider;
}

declare module "kafkajs/src/network/socketFactory.js" {
  import type { Socket } from "node:net";
  import type { ConnectionOptions } from "node:tls";

  export interface SocketRequest {
    readonly host: string;
    readonly port: number;
    readonly ssl: ConnectionOptions | undefined;
    readonly onConnect: () => void;
  }
  export default function createSocketFactory(): (request: SocketRequest) => Socket;
}

declare module "kafkajs/src/network/connection.js" {
  import type { Socket } from "node:net";
  import type { ConnectionOptions } from "node:tls";
  import type { SASLOptions } from "kafkajs";
  import type { SocketRequest } from "kafkajs/src/network/socketFactory.js";
  import type Encoder from "kafkajs/src/protocol/encoder.js";

  export interface Logger {
    namespace(): Logger;
    error(): void;
    warn(): void;
    info(): void;
    debug(): void;
  }

  export interface ConnectionSettings {
    readonly host: string;
    readonly port: number;
    readonly clientId: string;
    readonly logger: Logger;
    readonly socketFactory: (request: SocketRequest) => Socket;
    readonly ssl: ConnectionOptions | undefined;
    readonly sasl: SASLOptions | undefined;
    readonly connectionTimeout: number;
    readonly requestTimeout: number;
    readonly enforceRequestTimeout: boolean;
  }

  export interface ApiVersions {
    readonly [apiKey: number]: { readonly minVersion: number; readonly maxVersion: number } | undefined;
  }

  export interface ProtocolRequest<Answer> {
    readonly request: {
      readonly apiKey: number;
      readonly apiVersion: number;
      readonly apiName: string;
      readonly encode: () => Encoder;
    };
    readonly response: {
      readonly decode: (payload: Buffer) => Answer;
      readonly parse: (decoded: Answer) => Answer;
    };
  }

  export default class Connection {
    constructor(settings: ConnectionSettings);
    readonly requestQueue: {
      scheduleCheckPendingRequests: () => void;
      /** By correlation id. */
      readonly inflight: ReadonlyMap<number, unknown>;
      fulfillRequest(answer: { correlationId: number; payload: Buffer; size: number }): void;
    };
    /** Takes bytes from the socket. */
    processData: (chunk: Buffer) => void;
    connect(): Promise<boolean>;
    authenticate(): Promise<void>;
    setVersions(versions: ApiVersions): void;
    setSupportAuthenticationProtocol(supported: boolean): void;
    send: <Answer>(request: ProtocolRequest<Answer>) => Promise<Answer>;
  }
}
