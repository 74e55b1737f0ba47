import type { ConsumeMessage } from "amqplib";
import { type RabbitMQOptions, rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import type {
  DeliverySink,
  IncomingMessage,
  OutgoingMessage,
  QueueDeclaration,
  SendResult,
  SubscriptionDeclaration,
  Topology,
} from "../../../core/adapter.ts";
import type { Address } from "../../../core/address.ts";
import type { MessagingError } from "../../../core/errors.ts";

/** An adapter, opened, that writes down what it tells the engine. */
export async function openAdapter(options: RabbitMQOptions) {
  const adapter = rabbitmq({ reconnect: { firstMs: 20, maxMs: 500 }, ...options });
  const signals: string[] = [];
  const notices: MessagingError[] = [];
  await adapter.open({
    up: () => void signals.push("up"),
    down: () => void signals.push("down"),
    blocked: () => void signals.push("blocked"),
    unblocked: () => void signals.push("unblocked"),
    notice: (error) => void notices.push(error),
  });
  return { adapter, signals, notices, send };

  function send(to: Address, ...messages: OutgoingMessage[]): Promise<SendResult[]> {
    const { promise, resolve } = Promise.withResolvers<SendResult[]>();
    const results: SendResult[] = [];
    let missing = messages.length;
    adapter.send(to, messages, (index, result) => {
      if (results[index] !== undefined) throw new Error(`message ${index} was reported twice`);
      results[index] = result;
      if (--missing === 0) resolve(results);
    });
    return promise;
  }
}

/** A sink that keeps what it is given. */
export function keepingSink() {
  const kept: IncomingMessage<ConsumeMessage>[] = [];
  const lost: MessagingError[] = [];
  const stalled: MessagingError[] = [];
  const sink: DeliverySink<ConsumeMessage> = {
    deliver: (batch) => void kept.push(...batch),
    lost: (_tokens, cause) => void lost.push(cause),
    recall: () => undefined,
    stalled: (cause) => void stalled.push(cause),
    flowing: () => undefined,
  };
  return { kept, lost, stalled, sink };
}

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
