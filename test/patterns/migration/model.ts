import { type MessagingError, queue, subscription, topic } from "anybroker";
import { idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import { type MemoryAdapter, memory, memorySpace } from "anybroker/memory";
import {
  type Migration,
  type MigrationControl,
  memoryMigrationStore,
  migration,
  migrationControl,
} from "anybroker/migration";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { mortal } from "./world.ts";

/** What happens in a run. */
export type Action =
  | { readonly do: "sell"; readonly customer: number }
  /** Several without waiting for each other, at one instance that is not killed or cut: the order of the calls is to be kept. */
  | { readonly do: "burst"; readonly customer: number }
  /** To a larger share, or back to a smaller one; an impatient operator announces it and goes away. */
  | { readonly do: "share"; readonly share: number; readonly patient: boolean }
  | { readonly do: "take-back" }
  | { readonly do: "kill"; readonly instance: number }
  /** An instance does not reach the state store for a while. */
  | { readonly do: "cut"; readonly instance: number; readonly ms: number }
  | { readonly do: "wait"; readonly ms: number };

interface Body {
  readonly customer: number;
  readonly n: number;
}

interface Process {
  readonly broker: Migration;
  readonly clock: ProcessClock;
  readonly died: Promise<never>;
  cut: boolean;
  kill(): void;
}

const LEASE_MS = 3_000;
const BURST = 5;
const DAY_MS = 24 * 60 * 60 * 1_000;

/** What a run came to. */
export interface Outcome {
  readonly finished: boolean;
  /** In words, what was lost or out of order; empty if all is well. */
  readonly wrong: readonly string[];
  readonly sold: number;
}

/** An adapter whose batches are some time on their way. */
function slow(adapter: MemoryAdapter, clock: ProcessClock, wireMs: readonly number[]): MemoryAdapter {
  const send = adapter.send.bind(adapter);
  let batches = 0;
  adapter.send = (to, batch, report) => {
    const ms = wireMs[batches++ % wireMs.length] ?? 0;
    if (ms === 0) send(to, batch, report);
    else clock.schedule(() => send(to, batch, report), ms);
  };
  return adapter;
}

/** Runs a script of actions in virtual time, with slow handlers, and brings the migration to its end. */
export async function simulate(
  actions: readonly Action[],
  handlerMs: readonly number[],
  wireMs: readonly number[] = [0],
): Promise<Outcome> {
  const time = new VirtualTime();
  const ground = new ProcessClock(time);
  const spaces = { from: memorySpace({ clock: ground }), to: memorySpace({ clock: ground }) };
  const store = memoryMigrationStore({ clock: ground });
  const idempotency = memoryIdempotencyStore({ clock: ground });
  const key = ({ customer }: Body): string => `c${customer}`;
  const orders = queue<Body>("orders", { key, ordered: true });
  const placed = topic<Body>("placed", { key, ordered: true });
  const destinations = [orders, placed, subscription(placed, "billing")];
  const effects = new Map<string, string[]>();
  const confirmed = new Set<string>();
  let drawn = 0;

  const start = async (): Promise<Process> => {
    const clock = new ProcessClock(time);
    const adapters = {
      from: slow(memory({ space: spaces.from, clock }), clock, wireMs),
      to: slow(memory({ space: spaces.to, clock }), clock, wireMs),
    };
    const { promise: died, reject } = Promise.withResolvers<never>();
    died.catch(() => undefined);
    let dead = false;
    const process: Process = {
      broker: migration({
        ...adapters,
        destinations,
        state: mortal(store, () => dead || process.cut),
        idempotency: idempotent(idempotency, { clock, leaseMs: 2_000, postponeMs: 200, waitMs: 300 }),
        leaseMs: LEASE_MS,
        pollMs: 200,
        journal: "waived",
        broker: { clock, consume: { retry: { attempts: 100, delay: { firstMs: 50, maxMs: 200 } } } },
      }),
      clock,
      died,
      cut: false,
      kill() {
        dead = true;
        clock.kill();
        void adapters.from.close();
        void adapters.to.close();
        reject(new Error("killed"));
      },
    };
    const handler =
      (source: string) =>
      async ({ customer, n }: Body, { id }: { readonly id: string }) => {
        const ms = handlerMs[drawn++ % handlerMs.length] ?? 0;
        if (ms > 0) await new Promise<void>((resolve) => clock.schedule(resolve, ms));
        const lane = `${source} c${customer}`;
        const done = effects.get(lane) ?? [];
        if (!done.includes(id)) effects.set(lane, [...done, id]);
        void n;
      };
    process.broker.consume(orders, handler("orders"));
    process.broker.subscribe(placed, "billing", handler("billing"));
    await process.broker.start();
    return process;
  };

  const processes = [await start(), await start()];
  const tails = new Map<number, Promise<void>>();
  const numbers = new Map<number, number>();
  let turn = 0;
  const insist = async (send: (broker: Migration) => Promise<unknown>): Promise<void> => {
    for (;;) {
      // Any instance, in an order that is the same in each run.
      turn = (Math.imul(turn, 1_103_515_245) + 12_345) >>> 0;
      const process = processes[(turn >>> 16) % processes.length] as Process;
      try {
        await Promise.race([send(process.broker), process.died]);
        return;
      } catch {
        await new Promise<void>((resolve) => ground.schedule(resolve, 50));
      }
    }
  };
  const sell = (customer: number): void => {
    const n = numbers.get(customer) ?? 0;
    numbers.set(customer, n + 1);
    const id = `c${customer}-${n}`;
    const before = tails.get(customer) ?? Promise.resolve();
    // A customer waits for one to be confirmed before the next: that is the order to be kept.
    const sold = before.then(async () => {
      await insist((broker) => broker.send(orders, { customer, n }, { id }));
      confirmed.add(`orders ${id}`);
      await insist((broker) => broker.publish(placed, { customer, n }, { id }));
      confirmed.add(`billing ${id}`);
    });
    tails.set(customer, sold);
  };

  const burst = (customer: number): void => {
    const before = tails.get(customer) ?? Promise.resolve();
    const first = numbers.get(customer) ?? 0;
    numbers.set(customer, first + BURST);
    const sold = before.then(async () => {
      // Not the one that consumes: its barriers would wait for its own sends.
      const { broker } = processes[1] as Process;
      const sends = Array.from({ length: BURST }, async (_, index) => {
        const id = `c${customer}-${first + index}`;
        // None waits for the one before to be confirmed.
        await new Promise<void>((resolve) => ground.schedule(resolve, index * 60));
        await broker.send(orders, { customer, n: first + index }, { id, timeoutMs: DAY_MS });
        confirmed.add(`orders ${id}`);
      });
      await Promise.all(sends);
    });
    tails.set(customer, sold);
  };

  const adapters = {
    from: memory({ space: spaces.from, clock: ground }),
    to: memory({ space: spaces.to, clock: ground }),
  };
  const control: MigrationControl = migrationControl({
    ...adapters,
    destinations,
    state: store,
    broker: { clock: ground },
  });
  const expected = (error: MessagingError): void => {
    if (error.code !== "timeout" && error.code !== "conflict" && error.code !== "invalid") throw error;
  };
  const act = async (action: Action): Promise<void> => {
    switch (action.do) {
      case "sell":
        return sell(action.customer);
      case "burst":
        return burst(action.customer);
      case "wait":
        return new Promise((resolve) => void ground.schedule(resolve, action.ms));
      case "take-back": {
        const { pending } = await control.status();
        if (pending !== undefined) await control.rollback().catch(expected);
        return;
      }
      case "share": {
        const { share } = await control.status();
        const patience = { patienceMs: action.patient ? DAY_MS : 0 };
        const change =
          action.share > share
            ? control.advance({ ...patience, share: action.share })
            : control.rollback({
                ...patience,
                ...(action.share === 0 ? { to: "consuming" } : { share: action.share }),
              });
        await change.catch(expected);
        return;
      }
      case "kill": {
        const at = action.instance % processes.length;
        processes[at]?.kill();
        processes[at] = await start();
        return;
      }
      case "cut": {
        const process = processes[action.instance % processes.length] as Process;
        process.cut = true;
        ground.schedule(() => {
          process.cut = false;
        }, action.ms);
      }
    }
  };

  let finished = false;
  let failure: unknown;
  const script = async (): Promise<void> => {
    await control.advance({ patienceMs: DAY_MS });
    await control.advance({ patienceMs: DAY_MS });
    for (const action of actions) await act(action);
    await Promise.all(tails.values());
    if ((await control.status()).pending !== undefined) await control.advance({ patienceMs: DAY_MS }).catch(expected);
    if ((await control.status()).share < 100) await control.advance({ patienceMs: DAY_MS, share: 100 });
    await control.advance({ patienceMs: DAY_MS });
    const left = (): boolean => [...confirmed].some((each) => !isDone(effects, each));
    for (let tries = 0; tries < 1_000 && left(); tries++)
      await new Promise<void>((resolve) => ground.schedule(resolve, 100));
    await Promise.all(processes.map(({ broker }) => broker.stop()));
    await control.close();
  };
  script().then(
    () => {
      finished = true;
    },
    (error: unknown) => {
      failure = error;
      finished = true;
    },
  );
  await time.until(() => finished, DAY_MS);
  if (failure !== undefined) throw failure;
  const wrong = [...confirmed].filter((each) => !isDone(effects, each)).map((each) => `lost: ${each}`);
  for (const [lane, ids] of effects) {
    const ns = ids.map((id) => Number(id.split("-")[1]));
    if (ns.some((n, index) => n !== index)) wrong.push(`out of order: ${lane}: ${ids.join(" ")}`);
  }
  return { finished, wrong, sold: confirmed.size };
}

function isDone(effects: ReadonlyMap<string, readonly string[]>, each: string): boolean {
  const [source, id = ""] = each.split(" ");
  return effects.get(`${source} ${id.split("-")[0]}`)?.includes(id) === true;
}
