import type { RunningBroker } from "../contract.ts";
import type { Namespace } from "./namespace.ts";

/** A server that speaks SQS to test against; its `url` is the endpoint for clients. It lets anybody in. */
export interface RunningSQS extends RunningBroker {
  readonly region: string;
  /** Credentials for clients, which need some; the server takes any. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** Whether queues and messages are there again after a restart, and after a kill. */
  readonly durable: boolean;
  /** Fresh names, so that suites do not disturb each other. */
  newNamespace(): Namespace;
}

/** How a server is to be started. */
export interface SQSStartOptions {
  /** Whether it keeps its data over a restart. Costs several times the work per message. Default true. */
  readonly durable?: boolean;
}

/** The region that all of them are in. */
export const SQS_REGION = "us-east-1";

/** Credentials that open nothing. */
export const SQS_CREDENTIALS = { accessKeyId: "test", secretAccessKey: "test" } as const;
