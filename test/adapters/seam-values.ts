import type {
  OutgoingMessage,
  QueueDeclaration,
  SendResult,
  SubscriptionDeclaration,
  Topology,
} from "../../core/adapter.ts";

/** A message to send; what a test does not care about has some value. */
export function message(id: string, given: Partial<OutgoingMessage> = {}): OutgoingMessage {
  return {
    id,
    key: undefined,
    routingKey: undefined,
    headers: Object.create(null),
    body: Buffer.from(`body of ${id}`),
    contentType: "text/plain",
    size: 100,
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
    ...given,
  };
}

export function workQueue(name: string, given: Partial<QueueDeclaration> = {}): QueueDeclaration {
  return { address: { kind: "queue", name }, ordered: false, priorities: 1, ...given };
}

export function subscriptionOf(topic: string, name: string, filter?: string): SubscriptionDeclaration {
  return {
    address: { kind: "subscription", topic, name },
    ordered: false,
    from: "now",
    ...(filter === undefined ? {} : { filter }),
  };
}

/** A topology to create, unless told otherwise. */
export function topology(given: Partial<Topology>): Topology {
  return { mode: "create", queues: [], topics: [], subscriptions: [], ...given };
}

/** What a rejected send says. */
export function codeOf(result: SendResult | undefined): string {
  return result?.status === "rejected" ? result.error.code : (result?.status ?? "nothing");
}
