import { Declarations } from "../../core/declarations.ts";
import {
  addressName,
  type Destination,
  describeAddress,
  MessagingError,
  type Queue,
  type SubscriptionDeclaration,
  type Topic,
  workAddress,
} from "../../core/index.ts";
import type { BrokerBindings, DescribedDestination } from "./broker-bindings.ts";
import type { AsyncApiAction, Settings } from "./options.ts";
import { payloadSchema } from "./payload-schema.ts";

type Body = Queue<never, unknown> | Topic<never, unknown>;

/** A destination in all that a document says of it. */
export interface Entry extends DescribedDestination {
  /** Its name in the document, which no other has. */
  readonly key: string;
  /** What its messages are described by: the queue or topic. */
  readonly body: Body;
  /** The entry of the queue or topic. */
  readonly bodyKey: string;
  readonly actions: readonly AsyncApiAction[];
}

/**
 * What is to be described, each once, whatever the order and however often it is listed. Throws `conflict` for what
 * contradicts itself, or would be one and the same thing on the broker.
 */
export function describedEntries({ destinations, bindings, payload, actions }: Settings): readonly Entry[] {
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

/** A destination has one kind of message, and a document cannot say which of two is meant. */
function checkAlike(one: Body, other: Body, side: Settings["payload"]): void {
  const [told, toldOtherwise] = [one, other].map(({ schema, options }) =>
    JSON.stringify([payloadSchema(schema, side, "#"), options.codec?.contentType]),
  );
  if (told === toldOtherwise) return;
  throw new MessagingError(
    "conflict",
    `${one.kind} "${one.name}" is declared twice, with different schemas or codecs. Declare it once, and use that everywhere`,
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
        `${describeAddress(owner.address)} and ${describeAddress(entry.address)} would both be the ${name}. Rename one of them`,
      );
    }
    owners.set(name, entry);
  }
}
