import { DELIVERY_EXCHANGE, topicBinding } from "../adapters/rabbitmq/delay-levels.ts";
import type { RabbitMQAdapter } from "../adapters/rabbitmq/index.ts";
import { exchangeName } from "../adapters/rabbitmq/names.ts";
import { incoming } from "../adapters/rabbitmq/wire.ts";
import { systemClock } from "../core/clock.ts";
import { pause } from "../patterns/dead-letters/waiting.ts";
import type { Watching } from "./watching.ts";

const AGAIN_MS = 500;
/** What is not looked at in time is let go, from the oldest: nobody but the one who watches misses it. */
const MOST_WAITING = 10_000;

/**
 * Shows what comes to a topic's exchange, by a queue of the connection's own, until the signal is aborted. After a loss of
 * the connection it goes on with another queue; what was published in between is not shown.
 */
export async function watchExchange(adapter: RabbitMQAdapter, watching: Watching, signal: AbortSignal): Promise<void> {
  const clock = systemClock();
  while (!signal.aborted) {
    const model = adapter.connections.consuming;
    if (model !== undefined) await watchOnce(model, watching, signal);
    await pause(clock, AGAIN_MS, signal);
  }
}

type Model = NonNullable<RabbitMQAdapter["connections"]["consuming"]>;

async function watchOnce(model: Model, { name, filter, begun, seen }: Watching, signal: AbortSignal): Promise<void> {
  const channel = await model.createChannel();
  const ended = Promise.withResolvers<void>();
  channel.on("error", () => {});
  channel.once("close", ended.resolve);
  signal.addEventListener("abort", () => ended.resolve(), { once: true });
  try {
    const { queue } = await channel.assertQueue("", {
      exclusive: true,
      autoDelete: true,
      durable: false,
      arguments: { "x-max-length": MOST_WAITING },
    });
    const exchange = exchangeName(name);
    await channel.bindQueue(queue, exchange, filter ?? "#");
    // Where delayed events come from when they are due.
    await channel.bindQueue(queue, DELIVERY_EXCHANGE, topicBinding(exchange, filter ?? "#"));
    await channel.prefetch(100);
    let last = Promise.resolve();
    await channel.consume(queue, (message) => {
      if (message === null) {
        ended.resolve();
        return;
      }
      last = last.then(async () => {
        if (signal.aborted) return;
        await seen([incoming(message, undefined)]);
        channel.ack(message);
      });
      last.catch(ended.reject);
    });
    begun("by a queue of this connection's own, which is gone with it");
    await ended.promise;
  } finally {
    await channel.close().catch(() => {});
  }
}
