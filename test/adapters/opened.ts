import type { Adapter, DeliverySink, IncomingMessage, OutgoingMessage, SendResult } from "../../core/adapter.ts";
import type { Address } from "../../core/address.ts";
import type { MessagingError } from "../../core/errors.ts";

/** Opens an adapter, and writes down what it tells the engine. */
export async function opened<Own extends Pick<Adapter, "open" | "send">>(adapter: Own) {
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
export function keepingSink<Native>() {
  const kept: IncomingMessage<Native>[] = [];
  const lost: MessagingError[] = [];
  const stalled: MessagingError[] = [];
  const counts = { filtered: 0 };
  const sink: DeliverySink<Native> = {
    deliver: (batch) => void kept.push(...batch),
    lost: (_tokens, cause) => void lost.push(cause),
    revoke: () => undefined,
    stalled: (cause) => void stalled.push(cause),
    flowing: () => undefined,
    filtered: (count) => {
      counts.filtered += count;
    },
  };
  return { kept, lost, stalled, counts, sink, ids: () => kept.map(({ id }) => id) };
}
