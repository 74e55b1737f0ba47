import type { Adapter, DeliverySink, DeliveryToken, IncomingMessage, Receiver } from "../../core/adapter.ts";
import { addressName } from "../../core/address.ts";
import { delegate } from "./delegate.ts";

/** The traffic between the engine and one adapter for one source. */
class Traffic {
  /** Deliveries that are not settled, lost or closed now. */
  readonly unsettled = new Map<DeliveryToken, IncomingMessage>();
  /** The most of them at one time. */
  mostUnsettled = 0;
  /** Ids delivered, in order. */
  readonly delivered: string[] = [];
  /** The client's own messages as the adapter gave them. */
  readonly natives = new Set<unknown>();
  /** Ids whose ack the broker accepted, in order. */
  readonly acked: string[] = [];
  /** Ids that the broker itself moved to the dead letters. */
  readonly moved: string[] = [];
  /** Ids of requeued deliveries. */
  readonly requeued: string[] = [];
  /** Ids that the adapter reported lost, or that were settled too late. */
  readonly lost: string[] = [];
  /** Requested extensions of unsettled deliveries, per id. */
  readonly extensions = new Map<string, number>();
  /** Requested extensions of settled deliveries. */
  lateExtensions = 0;
  /** Receivers opened. */
  receivers = 0;
  /** Receivers closed. */
  closed = 0;
  leaseMs: number | undefined;
}

/** An adapter whose traffic is recorded. */
export interface Watched<Native> {
  readonly adapter: Adapter<Native>;
  /** The traffic of a source, by its name (`orders`, `order.placed..billing`, `orders.dlq`). */
  traffic(source: string): Traffic;
}

/** `onAck` gets the source and id of each ack that the broker accepted. */
export function watch<Native>(
  inner: Adapter<Native>,
  onAck: (source: string, id: string) => void = () => {},
): Watched<Native> {
  const sources = new Map<string, Traffic>();
  const trafficOf = (source: string): Traffic => {
    const traffic = sources.get(source) ?? new Traffic();
    sources.set(source, traffic);
    return traffic;
  };
  const settled = new Set<DeliveryToken>();
  const adapter = delegate(inner, {
    async receive(from, options, sink) {
      const traffic = trafficOf(addressName(from));
      const receiver = await inner.receive(from, options, watchSink(sink, traffic));
      traffic.receivers++;
      traffic.leaseMs = receiver.leaseMs;
      return watchReceiver(receiver, traffic, settled, (id) => onAck(addressName(from), id));
    },
  });
  return { adapter, traffic: trafficOf };
}

function watchSink<Native>(sink: DeliverySink<Native>, traffic: Traffic): DeliverySink<Native> {
  return {
    deliver(batch) {
      for (const message of batch) {
        traffic.unsettled.set(message.token, message);
        traffic.delivered.push(message.id);
        traffic.natives.add(message.native);
      }
      traffic.mostUnsettled = Math.max(traffic.mostUnsettled, traffic.unsettled.size);
      sink.deliver(batch);
    },
    lost(tokens, cause) {
      for (const token of tokens === "all" ? [...traffic.unsettled.keys()] : tokens) {
        const message = traffic.unsettled.get(token);
        if (message === undefined) continue;
        traffic.unsettled.delete(token);
        traffic.lost.push(message.id);
      }
      sink.lost(tokens, cause);
    },
    revoke: (tokens) => sink.revoke(tokens),
    overdue: (tokens, cause) => sink.overdue?.(tokens, cause),
    stalled: (cause) => sink.stalled(cause),
    flowing: () => sink.flowing(),
    filtered: (count) => sink.filtered(count),
  };
}

function watchReceiver(
  receiver: Receiver,
  traffic: Traffic,
  settled: Set<DeliveryToken>,
  onAck: (id: string) => void,
): Receiver {
  const { deadLetter } = receiver;
  const move: Receiver["deadLetter"] = async (token, letter) => {
    const result = await deadLetter?.call(receiver, token, letter);
    if (result?.status === "settled") traffic.moved.push(letter.id);
    if (result?.status === "settled" || result?.status === "fenced") {
      traffic.unsettled.delete(token);
      settled.add(token);
    }
    return result ?? { status: "unknown", cause: new Error("the receiver cannot move a dead letter") };
  };
  return {
    ...(deadLetter === undefined ? {} : { deadLetter: move }),
    leaseMs: receiver.leaseMs,
    prefetch: (count) => receiver.prefetch(count),
    async settle(batch) {
      // Before the call: the adapter may fill the prefetch again before its answer.
      const messages = batch.map(({ token }) => traffic.unsettled.get(token));
      for (const { token } of batch) {
        traffic.unsettled.delete(token);
        settled.add(token);
      }
      const results = await receiver.settle(batch);
      for (const [index, settlement] of batch.entries()) {
        const id = messages[index]?.id;
        if (id === undefined) continue;
        if (results[index] !== "settled") traffic.lost.push(id);
        else if (settlement.action === "requeue") traffic.requeued.push(id);
        else {
          traffic.acked.push(id);
          onAck(id);
        }
      }
      return results;
    },
    extend(batch) {
      for (const token of batch) {
        const id = traffic.unsettled.get(token)?.id;
        if (settled.has(token)) traffic.lateExtensions++;
        if (id !== undefined) traffic.extensions.set(id, (traffic.extensions.get(id) ?? 0) + 1);
      }
      return receiver.extend(batch);
    },
    async close() {
      await receiver.close();
      traffic.closed++;
      traffic.unsettled.clear();
    },
  };
}
