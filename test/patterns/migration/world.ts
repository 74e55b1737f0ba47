import { type Adapter, type Broker, createBroker, type Delivery, type Destination, MessagingError } from "anybroker";
import { idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import { type MemorySpace, memory, memorySpace } from "anybroker/memory";
import {
  type Migration,
  type MigrationControl,
  type MigrationEvent,
  type MigrationOptions,
  type MigrationStore,
  memoryMigrationStore,
  migration,
  migrationControl,
} from "anybroker/migration";
import { expect, onTestFinished } from "vitest";
import { type Catalog, catalog, type Numbered } from "./catalog.ts";

/** What a test registers clean-up with; tests that run side by side take that of their context. */
export type Finished = (cleanUp: () => void | Promise<void>) => void;

export const QUICK = { leaseMs: 1_500, pollMs: 50 } as const;

/** How adapters of the two brokers are made, for each process anew. */
export interface Pair {
  readonly from: () => Adapter;
  readonly to: () => Adapter;
  /** What names begin with. */
  readonly prefix?: string;
}

export function memoryPair(): Pair & { readonly spaces: Readonly<Record<"from" | "to", MemorySpace>> } {
  const spaces = { from: memorySpace(), to: memorySpace() };
  return { spaces, from: () => memory({ space: spaces.from }), to: () => memory({ space: spaces.to }) };
}

interface Effect {
  readonly id: string;
  readonly customer: string;
  readonly n: number;
}

/** One instance of a service, which can be killed. */
export interface Instance {
  readonly broker: Migration;
  readonly events: MigrationEvent[];
  /** Ends without a word: connections are cut, and the state store hears nothing any more. */
  kill(): Promise<void>;
}

/** What all instances share, and what became of every message. */
export class World {
  readonly pair: Pair;
  readonly store: MigrationStore;
  readonly idempotency = memoryIdempotencyStore();
  readonly catalog: Catalog;
  readonly effects = new Map<string, Effect[]>();
  readonly confirmed = new Map<string, Set<string>>();
  readonly options: Partial<MigrationOptions>;
  /** How often a handler ran, over all sources. */
  runs = 0;
  readonly #finished: Finished;
  readonly #next = new Map<string, number>();
  readonly #instances = new Set<Instance>();
  /** What a handler does before its effect. */
  before: (source: string, delivery: Delivery) => Promise<void> = async () => {};

  constructor(
    pair: Pair = memoryPair(),
    store: MigrationStore = memoryMigrationStore(),
    options: Partial<MigrationOptions> = QUICK,
    finished: Finished = onTestFinished,
  ) {
    this.#finished = finished;
    this.pair = pair;
    this.store = store;
    this.options = options;
    this.catalog = catalog(pair.prefix);
    for (const source of Object.values(this.catalog.sources)) {
      this.effects.set(source, []);
      this.confirmed.set(source, new Set());
    }
    finished(async () => {
      await Promise.all([...this.#instances].map(({ broker }) => broker.stop({ timeoutMs: 2_000 })));
    });
  }

  /** A handler whose effect happens once per id, as in a database. */
  #handler(source: string) {
    const effects = this.effects.get(source) as Effect[];
    return async (body: Numbered, delivery: Delivery): Promise<void> => {
      this.runs++;
      await this.before(source, delivery);
      expect(Object.keys(delivery.headers)).toEqual([]);
      if (!effects.some(({ id }) => id === delivery.id)) effects.push({ id: delivery.id, ...body });
    };
  }

  /** An instance that consumes everything, not started. */
  instance(options: Partial<MigrationOptions> = {}): Instance {
    const adapters = { from: this.pair.from(), to: this.pair.to() };
    const events: MigrationEvent[] = [];
    let dead = false;
    const store = mortal(this.store, () => dead);
    const broker = migration({
      ...adapters,
      destinations: this.catalog.destinations,
      state: store,
      idempotency: idempotent(this.idempotency, { leaseMs: 2_000, postponeMs: 50, waitMs: 200 }),
      onMigrationEvent: (event) => events.push(event),
      broker: { consume: { retry: { attempts: 50, delay: { firstMs: 10, maxMs: 50 } } } },
      ...this.options,
      ...options,
    });
    const { orders, emails, placed, sources } = this.catalog;
    broker.consume(orders, this.#handler(sources.orders));
    broker.consume(emails, this.#handler(sources.emails));
    broker.subscribe(placed, "billing", this.#handler(sources.billing));
    broker.subscribe(placed, "shipping", this.#handler(sources.shipping));
    const instance: Instance = {
      broker,
      events,
      kill: async () => {
        dead = true;
        this.#instances.delete(instance);
        await Promise.all([adapters.from.close(), adapters.to.close()]);
        await broker.stop({ timeoutMs: 0 });
      },
    };
    this.#instances.add(instance);
    return instance;
  }

  async started(options: Partial<MigrationOptions> = {}): Promise<Instance> {
    const instance = this.instance(options);
    await instance.broker.start();
    return instance;
  }

  control(): MigrationControl {
    const control = migrationControl({
      from: this.pair.from(),
      to: this.pair.to(),
      destinations: this.catalog.destinations,
      state: this.store,
    });
    this.#finished(() => control.close());
    return control;
  }

  /** Sends one of each for a customer, and again under the same id until it is confirmed. */
  async sell(broker: () => Broker, customer: string): Promise<void> {
    const n = this.#next.get(customer) ?? 0;
    this.#next.set(customer, n + 1);
    const body = { customer, n };
    const id = `${customer}-${n}`;
    const insist = async (send: (at: Broker) => Promise<unknown>): Promise<void> => {
      for (let tries = 0; tries < 1_000; tries++) {
        try {
          await send(broker());
          return;
        } catch (error) {
          if (!(error instanceof MessagingError)) throw error;
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
      }
      throw new Error(`${id} was never confirmed`);
    };
    const { orders, emails, placed, sources } = this.catalog;
    await insist((at) => at.send(orders, body, { id }));
    this.confirmed.get(sources.orders)?.add(id);
    await insist((at) => at.send(emails, body, { id }));
    this.confirmed.get(sources.emails)?.add(id);
    await insist((at) => at.publish(placed, body, { id }));
    this.confirmed.get(sources.billing)?.add(id);
    this.confirmed.get(sources.shipping)?.add(id);
  }

  /** Whether every confirmed message had its effect. */
  get isClosed(): boolean {
    return [...this.effects.keys()].every((source) => this.missing(source).length === 0);
  }

  missing(source: string): readonly string[] {
    const done = new Set(this.effects.get(source)?.map(({ id }) => id));
    return [...(this.confirmed.get(source) ?? [])].filter((id) => !done.has(id));
  }

  /** Nothing lost, nothing invented, each key in order. */
  expectClosed(): void {
    for (const source of this.effects.keys()) {
      expect(this.missing(source), source).toEqual([]);
      const effects = this.effects.get(source) as Effect[];
      expect(effects.filter(({ id }) => !this.confirmed.get(source)?.has(id))).toEqual([]);
      if (source === this.catalog.sources.emails) continue;
      const last = new Map<string, number>();
      for (const { customer, n } of effects) {
        expect(n, `${source}: ${customer}-${n} after ${customer}-${last.get(customer)}`).toBe(
          (last.get(customer) ?? -1) + 1,
        );
        last.set(customer, n);
      }
    }
  }
}

/** A store as a process sees it until it dies. */
export function mortal(store: MigrationStore, isDead: () => boolean): MigrationStore {
  return new Proxy(store, {
    get(target, name) {
      const value = target[name as keyof MigrationStore];
      if (typeof value !== "function") return value;
      return (...parameters: unknown[]) => {
        if (isDead()) return Promise.reject(new MessagingError("unreachable", "this process is dead"));
        return (value as (...all: unknown[]) => unknown).apply(target, parameters);
      };
    },
  });
}

/** A plain broker object on one side, for what is not of the migration. */
export async function plain(adapter: Adapter, destinations: readonly Destination[]): Promise<Broker> {
  const broker = createBroker(adapter, { destinations });
  onTestFinished(() => broker.stop({ timeoutMs: 0 }));
  await broker.start();
  return broker;
}
