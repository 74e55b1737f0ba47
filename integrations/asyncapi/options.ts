import type { Adapter } from "../../core/adapter.ts";
import { checkOptions, optionalText } from "../../core/checks.ts";
import type { Destination } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { type BrokerBindings, bindingsOfAdapter, plainBindings } from "./bindings.ts";
import type { AsyncApiInfo, AsyncApiServer } from "./document.ts";

/** What the described application does with a destination. */
export type AsyncApiAction = "send" | "receive";

/** The options of {@link asyncapi}. */
export interface AsyncApiOptions {
  readonly info: AsyncApiInfo;
  /** The servers by name. Hosts must not have credentials. Default: none. */
  readonly servers?: Readonly<Record<string, AsyncApiServer>>;
  /** The destinations in any order, as for `createBroker`. A subscription includes its topic. */
  readonly destinations: readonly Destination[];
  /**
   * The adapter of the broker; it need not be connected. For RabbitMQ, Kafka, SQS and SNS the document has bindings and
   * physical names. Default: logical names, without bindings.
   */
  readonly adapter?: Adapter;
  /** Bindings instead of an adapter; they need no client: `rabbitmqBindings()`, `kafkaBindings()`, `sqsBindings()`. */
  readonly bindings?: BrokerBindings;
  /**
   * The side of the schemas that describes bodies: `input` is what is sent, `output` is what handlers get. Default `input`.
   */
  readonly payload?: "input" | "output";
  /**
   * The application's header with the correlation id. Default: the message's id, if the broker has it in a header.
   */
  readonly correlationHeader?: string;
  /**
   * Returns what the application does with a destination. Default: it sends to queues and topics, and receives from queues
   * and subscriptions.
   */
  readonly actions?: (destination: Destination) => readonly AsyncApiAction[];
}

/** The checked options with their defaults. */
export interface Settings {
  readonly info: AsyncApiInfo;
  readonly servers: Readonly<Record<string, AsyncApiServer>> | undefined;
  readonly destinations: readonly Destination[];
  readonly bindings: BrokerBindings;
  readonly payload: "input" | "output";
  readonly correlationHeader: string | undefined;
  readonly actions: (destination: Destination) => readonly AsyncApiAction[];
}

const WHERE = "asyncapi";
const OPTIONS = ["info", "servers", "destinations", "adapter", "bindings", "payload", "correlationHeader", "actions"];
const POSSIBLE: Readonly<Record<Destination["kind"], readonly AsyncApiAction[]>> = {
  queue: ["send", "receive"],
  topic: ["send"],
  subscription: ["receive"],
};

/** Fills in the defaults. Throws `invalid`. */
export function resolveOptions(options: AsyncApiOptions): Settings {
  checkOptions(WHERE, options, OPTIONS);
  const { info, servers, destinations, adapter, bindings, payload = "input", actions } = options;
  if (typeof info?.title !== "string" || typeof info.version !== "string") {
    throw invalid("{ info } takes a title and a version, both strings");
  }
  for (const [name, server] of Object.entries(servers ?? {})) checkServer(name, server);
  if (!Array.isArray(destinations)) throw invalid("{ destinations } takes a list of queues, topics and subscriptions");
  for (const destination of destinations as readonly (Destination | null | undefined)[]) {
    if (destination?.kind !== undefined && destination.kind in POSSIBLE) continue;
    throw invalid("{ destinations } takes destinations made by queue(), topic() and subscription()");
  }
  if (adapter !== undefined && bindings !== undefined) throw invalid("takes { adapter } or { bindings }, not both");
  if (payload !== "input" && payload !== "output") throw invalid('{ payload } takes "input" or "output"');
  return {
    info,
    servers,
    destinations,
    bindings: bindings ?? (adapter === undefined ? plainBindings() : bindingsOfAdapter(adapter)),
    payload,
    correlationHeader: optionalText(WHERE, "correlationHeader", options.correlationHeader),
    actions: (destination) => possible(destination, actions?.(destination) ?? POSSIBLE[destination.kind]),
  };
}

function possible(destination: Destination, asked: readonly AsyncApiAction[]): readonly AsyncApiAction[] {
  const impossible = asked.find((action) => !POSSIBLE[destination.kind].includes(action));
  if (impossible === undefined) return asked;
  throw invalid(
    `{ actions } returned "${impossible}" for a ${destination.kind}, which allows only ${POSSIBLE[destination.kind].join(" and ")}`,
  );
}

/** Errors do not quote a server: any part of a malformed one may be a password. */
function checkServer(name: string, server: AsyncApiServer | undefined): void {
  if (typeof server?.host !== "string" || typeof server.protocol !== "string") {
    throw invalid(`{ servers } takes a host and a protocol, both strings; ${name} lacks one`);
  }
  if (`${server.host}${String(server.pathname ?? "")}`.includes("@")) {
    throw invalid(`{ servers } takes hosts without credentials; remove the part before the @ in ${name}`);
  }
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${problem}`);
}
