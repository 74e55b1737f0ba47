import { jsonCodec } from "../../core/index.ts";
import type { BrokerChannel } from "./broker-bindings.ts";
import { describedEntries, type Entry } from "./described.ts";
import { type AsyncApiDocument, given, type JsonObject, sorted } from "./document.ts";
import { headersSchema } from "./headers-schema.ts";
import { type AsyncApiAction, type AsyncApiOptions, resolveOptions, type Settings } from "./options.ts";
import { payloadSchema } from "./payload-schema.ts";

const HEADERS = "anybroker.headers";
const CORRELATION = "correlation";

/**
 * An AsyncAPI 3.0 document of what was declared: a channel for each queue, topic and, where the broker reads it from a
 * place of its own, subscription; the operations on them; their messages, with JSON Schema as far as their schemas tell it
 * by Standard JSON Schema, and otherwise left open with a note; and the bindings of the broker, with the names that stand
 * on it. The same declarations give the same document, byte for byte, in whatever order they are listed.
 *
 * Connects to nothing. Throws `invalid` for wrong options and for names that the broker cannot carry, and `conflict` for
 * destinations that contradict each other.
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
