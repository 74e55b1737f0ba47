import type { Broker, Consumer, ConsumerStatus } from "../../core/broker.ts";
import { checkInteger } from "../../core/checks.ts";
import type { Slots } from "../../core/concurrency.ts";
import {
  type Delivery,
  type Handler,
  type HandlerResult,
  type Middleware,
  outcomeKind,
  postpone,
} from "../../core/delivery.ts";
import type { PauseOptions, StopOptions } from "../../core/options.ts";
import type { BarrierAlignment } from "./barrier.ts";
import { Barrier } from "./carried.ts";
import type { Recording } from "./recording.ts";
import type { Side } from "./state.ts";

/** One consumer over both brokers. */
export class MovingConsumer implements Consumer {
  readonly #source: string;
  readonly #slots: Slots;
  readonly #make: (side: Side, broker: Broker) => Consumer;
  readonly #pair = new Map<Side, Consumer>();
  #paused = false;
  #ended = false;

  /** `make` starts a consumer at one side. */
  constructor(source: string, slots: Slots, make: (side: Side, broker: Broker) => Consumer) {
    this.#source = source;
    this.#slots = slots;
    this.#make = make;
  }

  /** Starts a consumer on a broker object, unless this one was stopped. A second call does nothing. */
  attach(side: Side, broker: Broker): void {
    if (this.#ended || this.#pair.has(side)) return;
    const consumer = this.#make(side, broker);
    if (this.#paused) consumer.pause();
    this.#pair.set(side, consumer);
  }

  /** Whether `stop` was called. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The deliveries in flight at a side. */
  heldOf(side: Side): number {
    return this.#pair.get(side)?.status().unsettled ?? 0;
  }

  pause(options?: PauseOptions): void {
    this.#paused = true;
    for (const consumer of this.#pair.values()) consumer.pause(options);
  }

  resume(): void {
    this.#paused = false;
    for (const consumer of this.#pair.values()) consumer.resume();
  }

  setConcurrency(count: number): void {
    checkInteger("setConcurrency(count)", count, 1);
    this.#slots.setMost(count);
    for (const consumer of this.#pair.values()) consumer.setConcurrency(count);
  }

  stop(options?: StopOptions): Promise<void> {
    this.#ended = true;
    return Promise.all([...this.#pair.values()].map((consumer) => consumer.stop(options))).then(() => {});
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  status(): ConsumerStatus {
    const all = [...this.#pair.values()].map((consumer) => consumer.status());
    const sum = (name: Held | "started" | "succeeded" | Counted): number =>
      all.reduce((total, status) => total + status[name], 0);
    const active = all.filter(({ state }) => state !== "stopped" && state !== "new");
    const stalled = active.find(({ state }) => state === "stalled");
    const leases = all.flatMap(({ leaseMs }) => leaseMs ?? []);
    return {
      source: this.#source,
      state: (stalled ?? active[0] ?? all[0])?.state ?? (this.ended ? "stopped" : "new"),
      error: stalled?.error,
      concurrency: this.#slots.most,
      prefetch: all.reduce((total, { prefetch }) => total + prefetch, 0),
      leaseMs: leases.length === 0 ? undefined : Math.min(...leases),
      running: sum("running"),
      waiting: sum("waiting"),
      unsettled: sum("unsettled"),
      parked: sum("parked"),
      quarantined: sum("quarantined"),
      started: sum("started"),
      succeeded: sum("succeeded"),
      failed: sum("failed"),
      retried: sum("retried"),
      postponed: sum("postponed"),
      deadLettered: sum("deadLettered"),
      filtered: sum("filtered"),
      requeued: sum("requeued"),
      fenced: sum("fenced"),
      abandoned: sum("abandoned"),
    };
  }
}

type Held = "running" | "waiting" | "unsettled" | "parked" | "quarantined";
type Counted = "failed" | "retried" | "postponed" | "deadLettered" | "filtered" | "requeued" | "fenced" | "abandoned";

const STORE_UNREACHABLE_MS = 500;

/** The parts of {@link handlerAt}. */
interface HandlingParts {
  readonly source: string;
  /** Undefined for an unordered source. */
  readonly alignment: BarrierAlignment | undefined;
  readonly slots: Slots;
  readonly recording: Recording;
  /** Whether the middleware handles each message once. */
  readonly once: boolean;
  /** The first one is the outermost. */
  readonly use: readonly Middleware[];
}

/** Wraps the user's handler for one side: with the alignment of barriers, the concurrency limit and the journal. */
export function handlerAt(side: Side, handler: Handler<unknown>, parts: HandlingParts): Handler<unknown> {
  const { source, alignment, slots, recording, once, use } = parts;
  const wrapped = use.reduceRight((next, middleware) => middleware(next), handler);
  return async (body: unknown, delivery: Delivery): Promise<HandlerResult> => {
    if (body instanceof Barrier) return alignment?.acknowledge(side, body, delivery.key);
    const refused = alignment?.admit(side, delivery);
    if (refused !== undefined) return refused;
    await slots.take();
    try {
      const result = await wrapped(body, delivery);
      if (outcomeKind(result) !== undefined) return result;
      const written = await recording.mark(source, delivery.id, "handled");
      // It is delivered again, skipped as handled, and marked then. Otherwise it would stay missing.
      return written || !once ? result : postpone({ afterMs: STORE_UNREACHABLE_MS });
    } finally {
      slots.give();
    }
  };
}
