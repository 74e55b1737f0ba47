import { createHash } from "node:crypto";
import type { Clock, Timer } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { ask } from "../../core/stores.ts";
import { Gathering } from "./gathering.ts";
import type { Side } from "./state.ts";
import type { BarrierAck, MigrationStore } from "./store.ts";

const MOST_AT_ONCE = 500;

/** So many keys are remembered; others are asked for again. */
const MOST_KNOWN = 20_000;

const LOOK_EVERY_MS = 100;

/** Names a key at one side of one source. */
export function ackScope(side: Side, source: string, key: string): string {
  const digest = createHash("sha256").update(`${source}\n${key}`).digest("base64url");
  return `${side}:${digest}`;
}

/** What is asked of the store of acknowledgements, and how. */
interface BarrierAcksParts {
  readonly store: MigrationStore;
  readonly migration: string;
  readonly clock: Clock;
  readonly timeoutMs: number;
}

/**
 * Which keys are done at which side, up to which epoch. Asked in batches, remembered here, and asked again and again for
 * those that somebody waits for.
 */
export class BarrierAcks {
  readonly #parts: BarrierAcksParts;
  readonly #writes: Gathering<BarrierAck, undefined>;
  readonly #known = new Map<string, number>();
  readonly #wanted = new Map<string, { readonly epoch: number; readonly acknowledged: Set<() => void> }>();
  #timer: Timer | undefined;
  #looking = false;
  #stopped = false;

  constructor(parts: BarrierAcksParts) {
    this.#parts = parts;
    const { store, migration } = parts;
    this.#writes = new Gathering(MOST_AT_ONCE, async (barrierAcks) => {
      await this.#ask(() => store.acknowledgeBarrier(migration, barrierAcks));
      for (const { scope, epoch } of barrierAcks) this.#learn(scope, epoch);
      return barrierAcks.map(() => undefined);
    });
  }

  /** Whether the key is known to be done up to the epoch. */
  has(scope: string, epoch: number): boolean {
    return (this.#known.get(scope) ?? 0) >= epoch;
  }

  /** Rejects as the store does; then it is not known to be written. */
  async write(scope: string, epoch: number): Promise<void> {
    await this.#writes.add({ scope, epoch });
  }

  /** Looks for an acknowledgement until it is there, or is not wanted any more; `acknowledged` is called once. */
  want(scope: string, epoch: number, acknowledged?: () => void): void {
    const before = this.#wanted.get(scope);
    const entry =
      before !== undefined && before.epoch >= epoch
        ? before
        : { epoch, acknowledged: before?.acknowledged ?? new Set<() => void>() };
    if (acknowledged !== undefined) entry.acknowledged.add(acknowledged);
    this.#wanted.set(scope, entry);
    this.#lookLater(before === undefined ? 0 : LOOK_EVERY_MS);
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer !== undefined) this.#parts.clock.cancel(this.#timer);
    this.#timer = undefined;
    this.#wanted.clear();
  }

  start(): void {
    this.#stopped = false;
  }

  #lookLater(ms: number): void {
    if (this.#timer !== undefined || this.#looking || this.#stopped || this.#wanted.size === 0) return;
    this.#timer = this.#parts.clock.schedule(() => {
      this.#timer = undefined;
      this.#looking = true;
      this.#look()
        // A store that is away is asked again.
        .catch(() => undefined)
        .finally(() => {
          this.#looking = false;
          this.#lookLater(LOOK_EVERY_MS);
        });
    }, ms);
  }

  async #look(): Promise<void> {
    const { store, migration } = this.#parts;
    const scopes = [...this.#wanted.keys()];
    for (let at = 0; at < scopes.length && !this.#stopped; at += MOST_AT_ONCE) {
      const some = scopes.slice(at, at + MOST_AT_ONCE);
      const epochs = await this.#ask(() => store.barrierAcks(migration, some));
      for (const [index, scope] of some.entries()) this.#learn(scope, epochs[index] ?? 0);
    }
  }

  #learn(scope: string, epoch: number): void {
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
    const wanted = this.#wanted.get(scope);
    if (wanted === undefined || epoch < wanted.epoch) return;
    this.#wanted.delete(scope);
    for (const acknowledged of wanted.acknowledged) acknowledged();
  }

  async #ask<Result>(call: () => Promise<Result>): Promise<Result> {
    const answer = await ask("migration state store", this.#parts.clock, this.#parts.timeoutMs, call);
    if ("value" in answer) return answer.value;
    throw answer.error instanceof MessagingError
      ? answer.error
      : new MessagingError("unreachable", "the migration state store did not answer; see the cause", {
          cause: answer.error,
        });
  }
}
