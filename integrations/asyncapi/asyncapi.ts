import type { SubscriptionDeclaration } from "../../core/adapter.ts";
import { addressName, describeAddress, workAddress } from "../../core/address.ts";
import { jsonCodec } from "../../core/codec.ts";
import { Declarations } from "../../core/declarations.ts";
import type { Destination, Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerBindings, BrokerChannel, DescribedDestination } from "./bindings.ts";
import { type AsyncApiDocument, given, type JsonObject, sorted } from "./document.ts";
import { type AsyncApiAction, type AsyncApiOptions, resolveOptions, type Settings } from "./options.ts";
import { headersSchema, payloadSchema } from "./schemas.ts";

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
