import type { RabbitMQAdapter } from "../adapters/rabbitmq/index.ts";
import type { Adapter, IncomingMessage, SubscriptionDeclaration, Topology } from "../core/adapter.ts";
import { startFailed } from "../core/engine/start-failed.ts";
import type { MessagingError } from "../core/errors.ts";
import { CommandError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";
import { withBroker } from "./frame.ts";
import { watchExchange } from "./watching-rabbitmq.ts";

/** What is watched, and what is done with what is seen. */
export interface Watching {
  readonly kind: "queue" | "topic";
  readonly name: string;
  readonly ordered: boolean;
  readonly filter: string | undefined;
  /** Told when it begins: what is published from then on is seen. */
  begun(how: string): void;
  /** Called one batch at a time. */
  seen(batch: readonly IncomingMessage[]): Promise<void>;
}

const WINDOW = 100;
const NOTHING: Topology = { mode: "none", queues: [], topics: [], subscriptions: [] };

/**
 * Shows what is published from now on, without taking it from anybody, until the signal is aborted. On RabbitMQ by an
 * exclusive queue, which is gone with its connection whatever happens; elsewhere by a subscription of its own, which is
 * removed at the end. Rejects with a `CommandError` for what can only be seen by taking it.
 */
export async function watch(frame: Frame, watching: Watching, signal: AbortSignal): Promise<void> {
  const leftover = await withBroker(frame, { destinations: [], declare: "none" }, async ({ adapter }) => {
    refuseTaking(adapter, watching);
    const problems = await adapter.declare({ ...NOTHING, mode: "verify", ...watchedTopology(watching) });
    if (problems.length > 0) throw startFailed(problems);
    if (adapter.name === "rabbitmq") {
      await watchExchange(adapter as RabbitMQAdapter, watching, signal);
      return undefined;
    }
    const declaration = throwaway(watching);
    await watchSubscription(adapter, declaration, watching, signal);
    return declaration;
  });
  if (leftover === undefined) return;
  // By a connection that did not declare it, since that would make it again; and also after Ctrl-C.
  const { signal: never } = new AbortController();
  await withBroker(frame, { destinations: [], declare: "none", signal: never }, async ({ adapter }) =>
    adapter.remove?.({ ...NOTHING, subscriptions: [leftover] }),
  );
}

function refuseTaking(adapter: Adapter, { kind, name }: Watching): void {
  if (kind === "queue" && adapter.name !== "kafka") {
    const text = `a queue on ${adapter.name} shows its messages only to those who take them, and tail takes nothing: queue "${name}" cannot be watched. "anybroker top" counts it, "anybroker dlq ls" shows what is dead`;
    throw new CommandError("unavailable", text);
  }
  if (kind === "topic" && adapter.name !== "rabbitmq" && adapter.remove === undefined) {
    throw new CommandError(
      "unavailable",
      `${adapter.name} cannot remove a subscription again, so none is made: topic "${name}" cannot be watched`,
    );
  }
}

function watchedTopology({ kind, name, ordered }: Watching): Partial<Topology> {
  if (kind === "topic") return { topics: [{ address: { kind, name }, ordered }] };
  return { queues: [{ address: { kind, name }, ordered, priorities: 1 }] };
}

/** On Kafka a queue is read like a topic, by whoever has a position of their own. */
function throwaway({ name, ordered, filter }: Watching): SubscriptionDeclaration {
  const address = {
    kind: "subscription",
    topic: name,
    name: `anybroker-tail-${crypto.randomUUID().slice(0, 8)}`,
  } as const;
  return { address, ordered, from: "now", ...(filter === undefined ? {} : { filter }) };
}

async function watchSubscription(
  adapter: Adapter,
  declaration: SubscriptionDeclaration,
  { ordered, begun, seen }: Watching,
  signal: AbortSignal,
): Promise<void> {
  const problems: readonly MessagingError[] = await adapter.declare({
    ...NOTHING,
    mode: "create",
    subscriptions: [declaration],
  });
  if (problems.length > 0) throw startFailed(problems);
  const ended = Promise.withResolvers<void>();
  let last = Promise.resolve();
  const receiver = await adapter.receive(
    declaration.address,
    { window: WINDOW, ordered, subscription: declaration },
    {
      deliver(batch) {
        last = last.then(async () => {
          if (!signal.aborted) await seen(batch);
          await receiver.settle(batch.map(({ token }) => ({ token, action: "ack" })));
        });
        last.catch(ended.reject);
      },
      lost: () => {},
      recall: () => {},
      stalled: () => {},
      flowing: () => {},
    },
  );
  try {
    begun(`by a subscription of its own, ${declaration.address.name}, which is removed at the end`);
    if (signal.aborted) return;
    signal.addEventListener("abort", () => ended.resolve(), { once: true });
    await ended.promise;
    await last;
  } finally {
    await receiver.close();
  }
}
