import { type KafkaOptions, type KafkaRecord, kafka } from "../../../adapters/kafka/index.ts";
import type { DeliverySink, IncomingMessage, OutgoingMessage, SendResult } from "../../../core/adapter.ts";
import type { Address } from "../../../core/address.ts";
import type { MessagingError } from "../../../core/errors.ts";

export { codeOf, message, subscriptionOf, topology, workQueue } from "../rabbitmq/open-adapter.ts";

/** An adapter, opened, that writes down what it tells the engine. */
export async function openAdapter(options: KafkaOptions) {
  const adapter = kafka({ reconnect: { firstMs: 20, maxMs: 500 }, sessionTimeoutMs: 6_000, ...options });
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
  const kept: IncomingMessage<KafkaRecord>[] = [];
  const lost: MessagingError[] = [];
  const stalled: MessagingError[] = [];
  const sink: DeliverySink<KafkaRecord> = {
    deliver: (batch) => void kept.push(...batch),
    recall: () => {},
    lost: (_tokens, cause) => void lost.push(cause),
    flowing: () => undefined,
    stalled: (cause) => void stalled.push(cause),
  };
  return { kept, lost, stalled, sink, ids: () => kept.map(({ id }) => id) };
}
