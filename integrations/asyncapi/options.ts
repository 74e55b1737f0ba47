import type { Adapter } from "../../core/adapter.ts";
import { checkOptions, optionalText } from "../../core/checks.ts";
import type { Destination } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { type BrokerBindings, bindingsOfAdapter, plainBindings } from "./bindings.ts";
import type { AsyncApiInfo, AsyncApiServer } from "./document.ts";

/** What an application does with a destination. */
export type AsyncApiAction = "send" | "receive";

/** The options of {@link asyncapi}. */
export interface AsyncApiOptions {
  readonly info: AsyncApiInfo;
  /** By name. No host may hold credentials. Default: none. */
  readonly servers?: Readonly<Record<string, AsyncApiServer>>;
  /** What is described, in any order: the same list as for `createBroker`. A subscription brings its topic with it. */
  readonly destinations: readonly Destination[];
  /**
   * The adapter whose broker and names are meant; it need not be connected. For RabbitMQ, Kafka, SQS and SNS the document
   * has the bindings too. Default: names as they were declared, and no bindings.
   */
  readonly adapter?: Adapter;
  /** In place of an adapter, and without its client: `rabbitmqBindings()`, `kafkaBindings()`, `sqsBindings()`. */
  readonly bindings?: BrokerBindings;
  /**
   * What the schemas of bodies describe: `input`, what is sent and what the wire carries, or `output`, what the schema
   * library makes of it for handlers. Default `input`.
   */
  readonly payload?: "input" | "output";
  /**
   * The header in which the application itself keeps what belongs together, as the messages' correlation id. Default: the
   * message's id, where the broker carries it in a header of its own.
   */
  readonly correlationHeader?: string;
  /**
   * What the described application does with a destination. Default: it sends to queues and topics, and receives from
   * queues and subscriptions.
   */
  readonly actions?: (destination: Destination) => readonly AsyncApiAction[];
}

/** The options, checked and with their defaults. */
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

/** Checks the options and fills in what is missing. Throws `invalid`. */
export function resolveOptions(options: AsyncApiOptions): Settings {
  checkOptions(WHERE, options, OPTIONS);
  const { info, servers, destinations, adapter, bindings, payload = "input", actions } = options;
  if (typeof info?.title !== "string" || typeof info.version !== "string") {
    throw invalid("{ info } takes a title and a version, both as texts");
  }
  for (const [name, server] of Object.entries(servers ?? {})) checkServer(name, server);
  if (!Array.isArray(destinations)) throw invalid("{ destinations } takes a list of queues, topics and subscriptions");
  for (const destination of destinations as readonly (Destination | null | undefined)[]) {
    if (destination?.kind !== undefined && destination.kind in POSSIBLE) continue;
    throw invalid("{ destinations } takes what queue(), topic() and subscription() make");
  }
  if (adapter !== undefined && bindings !== undefined) throw invalid("takes an adapter or bindings, not both");
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
    `{ actions } gives "${impossible}" for a ${destination.kind}, with which one can ${POSSIBLE[destination.kind].join(" and ")} only`,
  );
}

/** The error quotes nothing of the server, because any part of a malformed one may hold a password. */
function checkServer(name: string, server: AsyncApiServer | undefined): void {
  if (typeof server?.host !== "string" || typeof server.protocol !== "string") {
    throw invalid(`{ servers } takes a host and a protocol, both as texts; ${name} has none`);
  }
  if (`${server.host}${String(server.pathname ?? "")}`.includes("@")) {
    throw invalid(`{ servers } takes hosts without credentials; leave out what stands before the @ in ${name}`);
  }
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${problem}`);
}
