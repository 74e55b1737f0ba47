import { setTimeout as sleep } from "node:timers/promises";
import { delegate } from "../../../conformance/decorators/delegate.ts";
import { Inbox, outgoing } from "../../../conformance/direct-adapter.ts";
import type {
  Adapter,
  DeliverySink,
  IncomingMessage,
  OutgoingMessage,
  Receiver,
  Settlement,
} from "../../../core/adapter.ts";
import { routingMatches } from "../../../core/destination.ts";
import { MessagingError } from "../../../core/errors.ts";
import { HEADER, SYSTEM_PREFIX } from "../../../core/system-headers.ts";

/** Breaks one promise of an adapter. */
export type Breakage = (inner: Adapter) => Adapter;

const CONFIRMED = { status: "confirmed" } as const;

/** Confirms every tenth message to a queue or topic without storing it. */
export const losesMessages: Breakage = (inner) => {
  let sent = 0;
  return delegate(inner, {
    send(to, batch, report) {
      for (const [index, message] of batch.entries()) {
        if (++sent % 10 === 0) report(index, CONFIRMED);
        else inner.send(to, [message], (_, result) => report(index, result));
      }
    },
  });
};

export const losesDeadLetters: Breakage = (inner) =>
  delegate(inner, {
    send(to, batch, report) {
      if (to.kind !== "dead-letters") return inner.send(to, batch, report);
      for (const index of batch.keys()) report(index, CONFIRMED);
    },
  });

/** Says that the broker moved a message to the dead letters, and only removes it. */
export const losesWhatIsMoved: Breakage = (inner) =>
  changesReceivers(inner, (receiver) => ({
    async deadLetter(token) {
      await receiver.settle([{ token, action: "ack" }]);
      return { status: "settled" };
    },
  }));

export const confirmsBeforeStoring: Breakage = (inner) =>
  delegate(inner, {
    send(to, batch, report) {
      for (const index of batch.keys()) report(index, CONFIRMED);
      setTimeout(() => inner.send(to, batch, () => {}), 30);
    },
  });

export const confirmsTheUnroutable: Breakage = (inner) =>
  delegate(inner, {
    send(to, batch, report) {
      inner.send(to, batch, (index, result) => report(index, result.status === "rejected" ? CONFIRMED : result));
    },
  });

/** Stores every message twice. */
export const storesTwice: Breakage = (inner) =>
  delegate(inner, {
    send(to, batch, report) {
      inner.send(to, batch, () => {});
      inner.send(to, batch, report);
    },
  });

export const reversesBatches: Breakage = (inner) =>
  delegate(inner, {
    send(to, batch, report) {
      const last = batch.length - 1;
      inner.send(to, [...batch].reverse(), (index, result) => report(last - index, result));
    },
  });

/** Halves delays. */
export const delaysTooShort: Breakage = (inner) =>
  changesSent(inner, (message) => ({ ...message, delayMs: Math.floor(message.delayMs / 50) }));

export const forgetsPriorities: Breakage = (inner) => changesSent(inner, (message) => ({ ...message, priority: 0 }));

export const forgetsKeys: Breakage = (inner) => changesDelivered(inner, (message) => ({ ...message, key: undefined }));

export const forgetsHeaders: Breakage = (inner) => keepsHeaders(inner, (name) => name.startsWith(SYSTEM_PREFIX));

export const forgetsAttempts: Breakage = (inner) => keepsHeaders(inner, (name) => name !== HEADER.attempts);

/** Sets headers on a plain object by assignment, as a careless client does. */
export const fallsIntoHeaderTraps: Breakage = (inner) =>
  changesDelivered(inner, (message) => {
    const headers: Record<string, string> = {};
    for (const name in message.headers) headers[name] = message.headers[name] as string;
    return { ...message, headers };
  });

export const truncatesBodies: Breakage = (inner) =>
  changesDelivered(inner, (message) => ({ ...message, body: message.body.subarray(0, 100_000) }));

/** Ids of its own at each delivery. */
export const forgetsIds: Breakage = (inner) => {
  let next = 0;
  return changesDelivered(inner, (message) => ({ ...message, id: `made-up-${next++}` }));
};

export const exceedsTheWindow: Breakage = (inner) =>
  delegate(inner, {
    async receive(from, options, sink) {
      const receiver = await inner.receive(from, { ...options, prefetch: options.prefetch + 3 }, sink);
      return changedReceiver(receiver, { prefetch: (count) => receiver.prefetch(count + 3) });
    },
  });

/** Takes a message off the broker as it hands it over, as consumers do that ack automatically. */
export const acksOnDelivery: Breakage = (inner) =>
  delegate(inner, {
    async receive(from, options, sink) {
      let receiver: Receiver | undefined;
      const early: Settlement[] = [];
      const ack = (batch: readonly IncomingMessage[]): void => {
        const settlements = batch.map(({ token }) => ({ token, action: "ack" }) as const);
        if (receiver === undefined) early.push(...settlements);
        else void receiver.settle(settlements);
      };
      const acking: DeliverySink = {
        deliver(batch) {
          sink.deliver(batch);
          ack(batch);
        },
        lost: () => {},
        revoke: () => {},
        stalled: (cause) => sink.stalled(cause),
        flowing: () => sink.flowing(),
        filtered: (count) => sink.filtered(count),
      };
      receiver = await inner.receive(from, options, acking);
      void receiver.settle(early);
      return changedReceiver(receiver, { settle: async (batch) => batch.map(() => "settled" as const) });
    },
  });

/** Says that an ack was taken and keeps the message. */
export const neverAcks: Breakage = (inner) =>
  changesReceivers(inner, () => ({ settle: async (batch) => batch.map(() => "settled" as const) }));

/** Gives back what it should forget: a duplicate for ever. */
export const releasesInsteadOfAcking: Breakage = (inner) =>
  changesReceivers(inner, (receiver) => ({
    async settle(batch) {
      await sleep(1);
      return receiver.settle(batch.map(({ token }) => ({ token, action: "requeue" })));
    },
  }));

/** Puts what is requeued behind everything else, as RabbitMQ does with a message that is requeued alone. */
export const requeuesBehind: Breakage = (inner) =>
  delegate(inner, {
    async receive(from, options, sink) {
      if (from.kind !== "queue") return inner.receive(from, options, sink);
      const copies = new Map<unknown, OutgoingMessage>();
      const receiver = await inner.receive(from, options, {
        ...heard(sink),
        deliver(batch) {
          for (const { token, id, key, headers, body } of batch)
            copies.set(token, outgoing({ id, key, headers, body }));
          sink.deliver(batch);
        },
      });
      return changedReceiver(receiver, {
        async settle(batch) {
          const results = await receiver.settle(batch.map(({ token }) => ({ token, action: "ack" })));
          const requeued = batch.filter(({ action }, index) => action === "requeue" && results[index] === "settled");
          const sent = requeued.flatMap(({ token }) => copies.get(token) ?? []);
          inner.send(from, sent, () => {});
          return results;
        },
      });
    },
  });

export const saysSettledAlways: Breakage = (inner) =>
  changesReceivers(inner, (receiver) => ({
    async settle(batch) {
      await receiver.settle(batch);
      return batch.map(() => "settled" as const);
    },
  }));

export const extendsNothing: Breakage = (inner) =>
  changesReceivers(inner, () => ({ extend: async (batch) => batch.map(() => true) }));

export const ignoresFilters: Breakage = (inner) =>
  delegate(inner, {
    declare: (topology) =>
      inner.declare({
        ...topology,
        subscriptions: topology.subscriptions.map(({ filter: _, ...subscription }) => subscription),
      }),
  });

/** Applies the filter of a subscription to everything that it takes, copies included, and counts that. */
export const filtersCopies: Breakage = (inner) => filtersWhileReading(inner, () => true, true);

/** Applies the filter of a subscription to what waits, and says nothing. */
export const filtersInSilence: Breakage = (inner) => {
  const isFirst = ({ headers }: IncomingMessage): boolean =>
    headers[HEADER.attempts] === undefined && headers[HEADER.replays] === undefined;
  return filtersWhileReading(inner, isFirst, false);
};

function filtersWhileReading(inner: Adapter, judged: (message: IncomingMessage) => boolean, counts: boolean): Adapter {
  return delegate(inner, {
    async receive(from, options, sink) {
      const filter = options.subscription?.filter ?? "#";
      const early: Settlement[] = [];
      let receiver: Receiver | undefined;
      const reading: DeliverySink = {
        deliver(batch) {
          const surplus = batch.filter((message) => judged(message) && !routingMatches(filter, message.routingKey));
          sink.deliver(batch.filter((message) => !surplus.includes(message)));
          if (counts) sink.filtered(surplus.length);
          const settlements = surplus.map(({ token }) => ({ token, action: "ack" }) as const);
          if (receiver === undefined) early.push(...settlements);
          else void receiver.settle(settlements);
        },
        lost: (tokens, cause) => sink.lost(tokens, cause),
        revoke: (tokens) => sink.revoke(tokens),
        stalled: (cause) => sink.stalled(cause),
        flowing: () => sink.flowing(),
        filtered: (count) => sink.filtered(count),
      };
      receiver = await inner.receive(from, options, reading);
      void receiver.settle(early);
      return receiver;
    },
  });
}

/** Creates what is sent to. */
export const createsWhatIsMissing: Breakage = (inner) =>
  delegate(inner, {
    send(to, batch, report) {
      const queues = to.kind === "queue" ? [{ address: to, ordered: false, priorities: 1 }] : [];
      const topology = { mode: "create", queues, topics: [], subscriptions: [] } as const;
      void inner.declare(topology).then(() => inner.send(to, batch, report));
    },
  });

/** Leaves who watches a subscription of its own: it goes on taking events. */
export const leavesItsWatch: Breakage = (inner) =>
  delegate(inner, {
    async watch(of, watcher) {
      const end = await inner.watch?.(of, watcher);
      if (of.kind === "topic") {
        const address = { kind: "subscription", topic: of.name, name: "watching" } as const;
        const subscriptions = [{ address, ordered: false, from: "now" }] as const;
        await inner.declare({ mode: "create", queues: [], topics: [], subscriptions });
      }
      return async () => end?.();
    },
  });

/** Shows what is sent to a queue by taking it. */
export const watchesByTaking: Breakage = (inner) =>
  delegate(inner, {
    async watch(of, watcher) {
      if (of.kind === "topic") return (await inner.watch?.(of, watcher)) ?? (async () => {});
      const taken = new Inbox();
      taken.receiver = await inner.receive(of, { prefetch: 100, ordered: false }, taken);
      const looking = setInterval(() => {
        const batch = taken.messages.splice(0);
        void watcher.seen(batch.map((message) => ({ ...message, token: undefined })));
        void taken.settle(batch, "ack");
      }, 5);
      return async () => {
        clearInterval(looking);
        await taken.receiver?.close();
      };
    },
  });

/** Says that all is removed, and leaves it. */
export const removesNothing: Breakage = (inner) => delegate(inner, { remove: async () => {} });

/** Never answers for what it cannot deliver. */
export const swallowsRefusals: Breakage = (inner) =>
  delegate(inner, {
    send(to, batch, report) {
      inner.send(to, batch, (index, result) => {
        const cause = new MessagingError("unreachable", "no answer");
        report(index, result.status === "rejected" ? { status: "unknown", cause } : result);
      });
    },
  });

function changesSent(inner: Adapter, change: (message: OutgoingMessage) => OutgoingMessage): Adapter {
  return delegate(inner, { send: (to, batch, report) => inner.send(to, batch.map(change), report) });
}

function changesDelivered(inner: Adapter, change: (message: IncomingMessage) => IncomingMessage): Adapter {
  return delegate(inner, {
    receive: (from, options, sink) =>
      inner.receive(from, options, {
        ...heard(sink),
        deliver: (batch) => sink.deliver(batch.map(change)),
      }),
  });
}

/** All of a sink except its deliveries. */
function heard(sink: DeliverySink): Omit<DeliverySink, "deliver"> {
  return {
    lost: (tokens, cause) => sink.lost(tokens, cause),
    revoke: (tokens) => sink.revoke(tokens),
    stalled: (cause) => sink.stalled(cause),
    flowing: () => sink.flowing(),
    filtered: (count) => sink.filtered(count),
  };
}

function keepsHeaders(inner: Adapter, keep: (name: string) => boolean): Adapter {
  return changesDelivered(inner, (message) => {
    const headers: Record<string, string> = Object.create(null);
    for (const name in message.headers) if (keep(name)) headers[name] = message.headers[name] as string;
    return { ...message, headers };
  });
}

function changesReceivers(inner: Adapter, change: (receiver: Receiver) => Partial<Receiver>): Adapter {
  return delegate(inner, {
    async receive(from, options, sink) {
      const receiver = await inner.receive(from, options, sink);
      return changedReceiver(receiver, change(receiver));
    },
  });
}

function changedReceiver(inner: Receiver, change: Partial<Receiver>): Receiver {
  return {
    leaseMs: inner.leaseMs,
    prefetch: (count) => inner.prefetch(count),
    settle: (batch) => inner.settle(batch),
    extend: (batch) => inner.extend(batch),
    close: () => inner.close(),
    ...change,
  };
}
