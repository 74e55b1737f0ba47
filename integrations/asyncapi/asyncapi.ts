import type { StandardJSONSchemaV1, StandardSchemaV1 } from "@standard-schema/spec";
import type { Adapter, SubscriptionDeclaration } from "../../core/adapter.ts";
import { addressName, describeAddress, workAddress } from "../../core/address.ts";
import { checkOptions, optionalText } from "../../core/checks.ts";
import { jsonCodec } from "../../core/codec.ts";
import { Declarations } from "../../core/declarations.ts";
import type { Destination, Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { HEADER } from "../../core/system-headers.ts";
import {
  type AsyncApiDocument,
  type AsyncApiInfo,
  type AsyncApiServer,
  type BrokerBindings,
  type BrokerChannel,
  type BrokerMessages,
  bindingsOfAdapter,
  type DescribedDestination,
  given,
  type JsonObject,
  type JsonValue,
  plainBindings,
  sorted,
} from "./bindings.ts";

type Body = Queue<never, unknown> | Topic<never, unknown>;

/** A destination with all that the document says about it. */
interface Entry extends DescribedDestination {
  /** Its unique name in the document. */
  readonly key: string;
  /** The queue or topic that defines its messages. */
  readonly body: Body;
  /** The entry of the queue or topic. */
  readonly bodyKey: string;
  readonly actions: readonly AsyncApiAction[];
}

/**
 * The destinations to describe, each once, in a fixed order. Throws `conflict` for contradicting declarations, and for
 * destinations with the same name on the broker.
 */
function describedEntries({ destinations, bindings, payload, actions }: Settings): readonly Entry[] {
  const declarations = new Declarations();
  const bodies = new Map<string, Body>();
  const acted = new Map<string, Set<AsyncApiAction>>();
  for (const destination of destinations) {
    const of = destination.kind === "subscription" ? destination.topic : destination;
    if (destination.kind === "subscription") {
      declarations.addSubscription(destination.topic, destination.name, destination.options);
    } else if (destination.kind === "queue") declarations.addQueue(destination);
    else declarations.addTopic(destination);
    const known = bodies.get(keyOf(of));
    if (known !== undefined) checkAlike(known, of, payload);
    else bodies.set(keyOf(of), of);
    const key = keyOf(destination);
    acted.set(key, new Set([...(acted.get(key) ?? []), ...actions(destination)]));
  }
  const { queues, topics, subscriptions } = declarations.topology("none");
  const ofTopic = (topic: string): readonly SubscriptionDeclaration[] =>
    subscriptions
      .filter(({ address }) => address.topic === topic)
      .sort((one, other) => (one.address.name < other.address.name ? -1 : 1));
  const described = [
    ...queues.map((queue) => ({ ...queue, filter: undefined, subscriptions: [] })),
    ...topics.map((topic) => ({ ...topic, filter: undefined, subscriptions: ofTopic(topic.address.name) })),
    ...subscriptions.map((subscription) => ({ filter: undefined, ...subscription, subscriptions: [] })),
  ];
  const entries = described.map(({ address, ordered, filter, subscriptions }): Entry => {
    const bodyKey = address.kind === "subscription" ? `topic.${address.topic}` : `${address.kind}.${address.name}`;
    const key = address.kind === "subscription" ? `subscription.${addressName(address)}` : bodyKey;
    const body = bodies.get(bodyKey) as Body;
    const { ttlMs } = body.options;
    return { key, bodyKey, body, address, ordered, ttlMs, filter, subscriptions, actions: [...(acted.get(key) ?? [])] };
  });
  refuseCollisions(entries, bindings);
  return entries.sort((one, other) => (one.key < other.key ? -1 : 1));
}

function keyOf(destination: Destination): string {
  return destination.kind === "subscription"
    ? `subscription.${addressName(workAddress(destination.topic.name, destination.name))}`
    : `${destination.kind}.${destination.name}`;
}

/** A destination has one kind of message, so its declarations must be alike. */
function checkAlike(one: Body, other: Body, side: Settings["payload"]): void {
  const [first, second] = [one, other].map(({ schema, options }) =>
    JSON.stringify([payloadSchema(schema, side, "#"), options.codec?.contentType]),
  );
  if (first === second) return;
  throw new MessagingError(
    "conflict",
    `${one.kind} "${one.name}" is declared twice, with different schemas or codecs. Declare it once`,
  );
}

function refuseCollisions(entries: readonly Entry[], bindings: BrokerBindings): void {
  const owners = new Map<string, Entry>();
  for (const entry of entries) {
    const name = bindings.physicalName(entry.address);
    const owner = owners.get(name);
    if (owner !== undefined) {
      throw new MessagingError(
        "conflict",
        `${describeAddress(owner.address)} and ${describeAddress(entry.address)} would both be the ${name} on the broker. Rename one of them`,
      );
    }
    owners.set(name, entry);
  }
}

const HEADERS = "anybroker.headers";
const CORRELATION = "correlation";

/**
 * Makes an AsyncAPI 3.0 document of declared destinations:
 *
 * - a channel for each queue and topic, and for each subscription if the broker stores it apart from its topic;
 * - the operations on them;
 * - the messages, with JSON Schema from schemas that support Standard JSON Schema, otherwise an open schema with a note;
 * - the bindings of the broker, with physical names.
 *
 * The same declarations give the same document, byte for byte, in any order. Connects to nothing. Throws `invalid` for wrong
 * options and for names that the broker does not allow, and `conflict` for contradicting destinations.
 */
export function asyncapi(options: AsyncApiOptions): AsyncApiDocument {
  const settings = resolveOptions(options);
  const entries = describedEntries(settings);
  const bodies = entries.filter(({ key, bodyKey }) => key === bodyKey);
  const location = correlationLocation(settings);
  return {
    asyncapi: "3.0.0",
    info: settings.info,
    ...(settings.servers === undefined ? {} : { servers: sorted(Object.entries(settings.servers)) }),
    defaultContentType: jsonCodec().contentType,
    channels: sorted(
      entries
        .filter(({ key, bodyKey }) => key === bodyKey || settings.bindings.subscriptionsApart)
        .map((entry) => [entry.key, channel(entry, settings)]),
    ),
    operations: sorted(
      entries.flatMap((entry) =>
        entry.actions.map((action) => [`${action}.${entry.key}`, operation(action, entry, settings)] as const),
      ),
    ),
    components: {
      messages: sorted(bodies.map((entry) => [entry.key, message(entry, location !== undefined, settings)])),
      schemas: sorted([
        [HEADERS, headersSchema(settings.bindings.messages, settings.correlationHeader)],
        ...bodies.map(({ key, body }) => {
          return [key, payloadSchema(body.schema, settings.payload, pointer("components", "schemas", key))] as const;
        }),
      ]),
      ...(location === undefined ? {} : { correlationIds: { [CORRELATION]: { location } } }),
    },
  };
}

function correlationLocation({ correlationHeader, bindings }: Settings): string | undefined {
  if (correlationHeader === undefined) return bindings.messages.idLocation;
  return `$message.header#/${escaped(correlationHeader)}`;
}

function channel(entry: Entry, { bindings }: Settings): JsonObject {
  const { address, parameters, bindings: own }: BrokerChannel = bindings.channel(entry);
  const { ordered, ttlMs, filter, bodyKey, body } = entry;
  const { kind } = entry.address;
  return given({
    address,
    title: titleOf(entry),
    description: descriptionOf(entry),
    messages: { [body.name]: reference("components", "messages", bodyKey) },
    parameters,
    bindings: own,
    "x-anybroker": given({
      kind,
      name: entry.address.kind === "subscription" ? entry.address.topic : entry.address.name,
      subscription: entry.address.kind === "subscription" ? entry.address.name : undefined,
      filter,
      ordered,
      ttlMs,
    }),
  });
}

function operation(action: AsyncApiAction, entry: Entry, { bindings }: Settings): JsonObject {
  const { address, bodyKey, body, filter } = entry;
  const on = bindings.subscriptionsApart ? entry.key : bodyKey;
  const subscription = address.kind === "subscription" ? address.name : undefined;
  return given({
    action,
    channel: reference("channels", on),
    title: `${action === "send" ? "Send to" : "Receive from"} ${titleOf(entry)}`,
    description: address.kind === "subscription" ? descriptionOf(entry) : undefined,
    messages: [reference("channels", on, "messages", body.name)],
    bindings: bindings.operation(action, entry),
    "x-anybroker": subscription === undefined ? undefined : given({ subscription, filter }),
  });
}

function message({ bodyKey, body }: Entry, correlated: boolean, { bindings }: Settings): JsonObject {
  return given({
    name: body.name,
    title: body.name,
    contentType: body.options.codec?.contentType ?? jsonCodec().contentType,
    headers: reference("components", "schemas", HEADERS),
    payload: reference("components", "schemas", bodyKey),
    correlationId: correlated ? reference("components", "correlationIds", CORRELATION) : undefined,
    bindings: bindings.messages.bindings,
  });
}

function titleOf({ address }: Entry): string {
  if (address.kind === "subscription") return `subscription ${address.name} of topic ${address.topic}`;
  return `${address.kind} ${address.name}`;
}

function descriptionOf({ address, ordered, filter }: Entry): string {
  const sentences = {
    queue: "Work: each message is handled by one of the competing consumers.",
    topic: "Events: every subscription gets its own copy of each.",
    subscription: `The copies that are handled by the consumers of this subscription${filter === undefined ? "" : `: of events whose routing key matches ${filter}`}.`,
  };
  const order = ordered ? " Messages of one key are handled one after another, in the order of their sending." : "";
  return sentences[address.kind] + order;
}

function reference(...path: readonly string[]): JsonObject {
  return { $ref: pointer(...path) };
}

function pointer(...path: readonly string[]): string {
  return `#/${path.map(escaped).join("/")}`;
}

function escaped(name: string): string {
  return name.replaceAll("~", "~0").replaceAll("/", "~1");
}

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
interface Settings {
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
function resolveOptions(options: AsyncApiOptions): Settings {
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

/** The version of JSON Schema that every AsyncAPI parser supports. */
const TARGET = "draft-07";
const FORMAT = "application/schema+json;version=draft-07";
/** Keywords whose values are not schemas. */
const VALUES = ["const", "default", "enum", "examples"];
/** Keywords whose values are objects of schemas. */
const NAMED = ["properties", "patternProperties", "definitions", "$defs", "dependencies"];

/**
 * The JSON Schema of a body, by Standard JSON Schema; otherwise an open schema with a note. `base` is its JSON pointer in the
 * document, for references within the schema.
 */
function payloadSchema(schema: StandardSchemaV1 | undefined, side: "input" | "output", base: string): JsonObject {
  if (schema === undefined) return open("it was declared without a schema");
  const { vendor, jsonSchema } = (schema as StandardSchemaV1 & Partial<StandardJSONSchemaV1>)[
    "~standard"
  ] as Partial<StandardJSONSchemaV1.Props> & { readonly vendor: string };
  if (typeof jsonSchema?.[side] !== "function") return open(`the schema, of ${vendor}, gives no JSON Schema`);
  let made: unknown;
  try {
    made = JSON.parse(JSON.stringify(jsonSchema[side]({ target: TARGET })));
  } catch (error) {
    return open(`the schema, of ${vendor}, cannot be written as JSON Schema: ${firstLine(error)}`);
  }
  if (!isObject(made)) return open(`the schema, of ${vendor}, gives no JSON Schema`);
  const { $schema: _, $id: __, ...rest } = made;
  return { schemaFormat: FORMAT, schema: rebased(rest, `${base}/schema`) };
}

function open(why: string): JsonObject {
  return { description: `Any body: ${why}.` };
}

function firstLine(error: unknown): string {
  const [line = ""] = thrownText(error).split("\n");
  return line.replace(/\.$/, "");
}

/** Rewrites references to the schema's root for its place in the document. */
function rebased(schema: JsonObject, base: string): JsonObject {
  return Object.fromEntries(
    Object.entries(schema).map(([keyword, value]) => {
      if (keyword === "$ref" && typeof value === "string" && /^#(\/|$)/.test(value))
        return [keyword, base + value.slice(1)];
      if (VALUES.includes(keyword)) return [keyword, value];
      if (NAMED.includes(keyword) && isObject(value)) {
        return [keyword, Object.fromEntries(Object.entries(value).map(([name, each]) => [name, within(each, base)]))];
      }
      return [keyword, within(value, base)];
    }),
  );
}

function within(value: JsonValue, base: string): JsonValue {
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map((each) => within(each, base));
  return isObject(value) ? rebased(value, base) : value;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const WHOLE_NUMBER = "^[0-9]+$";

/** The engine's headers of messages that are not dead-lettered. Exhaustive: a new header needs a description to compile. */
const ENGINE_HEADERS: Readonly<Record<Exclude<keyof typeof HEADER, `dead${string}`>, JsonObject>> = {
  publishedAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 of the first publishing; absent if the id has it.",
  },
  attempts: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How many attempts were made on earlier copies of the message.",
  },
  firstFailedAt: { type: "string", format: "date-time", description: "The time of the first failed attempt." },
  dueAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 before which the message must not be handled.",
  },
  expiresAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 after which the message must not be handled.",
  },
  replays: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How often the message was replayed from the dead letters.",
  },
  cut: { type: "string", description: "What the message lost so that a copy of it could be made." },
  replayRun: { type: "string", description: "The run that replayed it last." },
  editedFrom: { type: "string", description: "The id of the original, if this is an edited copy." },
  moves: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How often the message was moved from one broker to another.",
  },
};

/** The schema of a message's headers: anybroker's own, and any others as strings. */
function headersSchema(messages: BrokerMessages, correlationHeader: string | undefined): JsonObject {
  const { headers, required = [], packed = false } = messages;
  const engine = Object.entries(ENGINE_HEADERS).map(
    ([name, schema]) => [HEADER[name as keyof typeof ENGINE_HEADERS], schema] as const,
  );
  const correlation = { type: "string", description: "The correlation id: related messages have the same value." };
  return given({
    type: "object",
    description: "Headers, all strings. Those listed here are anybroker's own; an application adds others.",
    properties: sorted([
      ...(packed ? [] : engine),
      ...Object.entries(headers),
      ...(correlationHeader === undefined ? [] : [[correlationHeader, correlation] as const]),
    ]),
    required: required.length === 0 ? undefined : [...required].sort(),
    additionalProperties: { type: "string" },
  });
}
