import { createHash } from "node:crypto";
import type { Clock, Timer } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { ask } from "../../core/stores.ts";
import { CallBatcher } from "./call-batcher.ts";
import type { Side } from "./state.ts";
import type { BarrierAck, MigrationStore } from "./store.ts";

const MOST_AT_ONCE = 500;

/** The most acknowledgements in memory. Older ones are read from the store again. */
const MOST_KNOWN = 20_000;

const POLL_MS = 100;

/** The scope of a key's acknowledgement: one side of one source. */
export function ackScope(side: Side, source: string, key: string): string {
  const digest = createHash("sha256").update(`${source}\n${key}`).digest("base64url");
  return `${side}:${digest}`;
}

/** The parts of {@link BarrierAcks}. */
interface BarrierAcksParts {
  readonly store: MigrationStore;
  readonly migration: string;
  readonly clock: Clock;
  readonly timeoutMs: number;
}

/** The barrier acknowledgements: which keys are done at which side, up to which epoch. Batches writes, polls and caches. */
export class BarrierAcks {
  readonly #parts: BarrierAcksParts;
  readonly #writes: CallBatcher<BarrierAck, undefined>;
  readonly #known = new Map<string, number>();
  readonly #watched = new Map<string, { readonly epoch: number; readonly acknowledged: Set<() => void> }>();
  #timer: Timer | undefined;
  #polling = false;
  #stopped = false;

  constructor(parts: BarrierAcksParts) {
    this.#parts = parts;
    const { store, migration } = parts;
    this.#writes = new CallBatcher(MOST_AT_ONCE, async (barrierAcks) => {
      await this.#call(() => store.acknowledgeBarrier(migration, barrierAcks));
      for (const { scope, epoch } of barrierAcks) this.#add(scope, epoch);
      return barrierAcks.map(() => undefined);
    });
  }

  /** Whether the scope is known to be acknowledged up to the epoch. */
  has(scope: string, epoch: number): boolean {
    return (this.#known.get(scope) ?? 0) >= epoch;
  }

  /** Stores an acknowledgement. After a rejection it may or may not be stored. */
  async write(scope: string, epoch: number): Promise<void> {
    await this.#writes.add({ scope, epoch });
  }

  /** Polls for an acknowledgement until it is stored, or until `stop`. Calls `acknowledged` once. */
  watch(scope: string, epoch: number, acknowledged?: () => void): void {
    const before = this.#watched.get(scope);
    const entry =
      before !== undefined && before.epoch >= epoch
        ? before
        : { epoch, acknowledged: before?.acknowledged ?? new Set<() => void>() };
    if (acknowledged !== undefined) entry.acknowledged.add(acknowledged);
    this.#watched.set(scope, entry);
    this.#pollLater(before === undefined ? 0 : POLL_MS);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== undefined) this.#parts.clock.cancel(this.#timer);
    this.#timer = undefined;
    this.#watched.clear();
  }

  start(): void {
    this.#stopped = false;
  }

  #pollLater(ms: number): void {
    if (this.#timer !== undefined || this.#polling || this.#stopped || this.#watched.size === 0) return;
    this.#timer = this.#parts.clock.schedule(() => {
      this.#timer = undefined;
      this.#polling = true;
      this.#poll()
        // An unreachable store is asked again.
        .catch(() => undefined)
        .finally(() => {
          this.#polling = false;
          this.#pollLater(POLL_MS);
        });
    }, ms);
  }

  async #poll(): Promise<void> {
    const { store, migration } = this.#parts;
    const scopes = [...this.#watched.keys()];
    for (let at = 0; at < scopes.length && !this.#stopped; at += MOST_AT_ONCE) {
      const some = scopes.slice(at, at + MOST_AT_ONCE);
      const epochs = await this.#call(() => store.barrierAcks(migration, some));
      for (const [index, scope] of some.entries()) this.#add(scope, epochs[index] ?? 0);
    }
  }

  #add(scope: string, epoch: number): void {
    if (epoch > 0) {
      const known = Math.max(this.#known.get(scope) ?? 0, epoch);
      this.#known.delete(scope);
      this.#known.set(scope, known);
      if (this.#known.size > MOST_KNOWN)
        for (const oldest of this.#known.keys()) {
          this.#known.delete(oldest);
          break;
        }
    }
    const watched = this.#watched.get(scope);
    if (watched === undefined || epoch < watched.epoch) return;
    this.#watched.delete(scope);
    for (const acknowledged of watched.acknowledged) acknowledged();
  }

  async #call<Result>(call: () => Promise<Result>): Promise<Result> {
    const answer = await ask("migration state store", this.#parts.clock, this.#parts.timeoutMs, call);
    if ("value" in answer) return answer.value;
    throw answer.error instanceof MessagingError
      ? answer.error
      : new MessagingError("unreachable", "the migration state store did not answer; see the cause", {
          cause: answer.error,
        });
  }
}
