import type { SendResult } from "../../../core/adapter.ts";
import type { Clock, Random, Timer } from "../../../core/clock.ts";
import { afterCurrentTurn } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import { RETRY } from "../delays/backoff.ts";
import { Notices } from "../delays/notices.ts";
import type { Producer } from "../producing/contract.ts";
import { tombstone } from "./dead-letter-record.ts";

interface Removal {
  readonly key: string;
  readonly done: (removed: boolean) => void;
  failures: number;
}

/** What a remover works with. */
export interface RemoverParts {
  readonly topic: string;
  readonly producer: Producer;
  readonly clock: Clock;
  readonly random: Pick<Random, "fraction">;
  /** Some could not be removed, and are tried again. Told at most every 30 s. */
  failed(cause: MessagingError): void;
}

/** Removes records by writing tombstones, each until it is confirmed. */
export class Remover {
  readonly #parts: RemoverParts;
  readonly #timers = new Set<Timer>();
  readonly #open = new Set<Removal>();
  readonly #notices: Notices;
  #batch: Removal[] = [];
  #isEnded = false;

  constructor(parts: RemoverParts) {
    this.#parts = parts;
    this.#notices = new Notices(parts.clock, (error) => parts.failed(error));
  }

  /** Resolves with true once all keys are removed; with false if that is not known when the remover ends. */
  async remove(keys: readonly string[]): Promise<boolean> {
    const removed = await Promise.all(keys.map((key) => this.#remove(key)));
    return removed.every(Boolean);
  }

  /** No further tries. One that is under way may still succeed. */
  end(): void {
    this.#isEnded = true;
    for (const timer of this.#timers) this.#parts.clock.cancel(timer);
    for (const removal of [...this.#open]) this.#finish(removal, false);
  }

  #remove(key: string): Promise<boolean> {
    if (this.#isEnded) return Promise.resolve(false);
    return new Promise((done) => {
      const removal = { key, done, failures: 0 };
      this.#open.add(removal);
      this.#write(removal);
    });
  }

  /** What is asked for within one turn goes in one batch. */
  #write(removal: Removal): void {
    this.#batch.push(removal);
    if (this.#batch.length > 1) return;
    afterCurrentTurn(() => {
      const batch = this.#batch;
      this.#batch = [];
      if (this.#isEnded) return;
      const { topic, producer } = this.#parts;
      const records = batch.map(({ key }) => tombstone(key));
      producer.send(topic, records, (index, result) => this.#written(batch[index] as Removal, result));
    });
  }

  #written(removal: Removal, result: SendResult): void {
    if (!this.#open.has(removal)) return;
    if (result.status === "confirmed") {
      this.#finish(removal, true);
      return;
    }
    const { clock, random, topic } = this.#parts;
    const cause = result.status === "rejected" ? result.error : result.cause;
    const timer = clock.schedule(
      () => {
        this.#timers.delete(timer);
        this.#write(removal);
      },
      backoffMs(++removal.failures, RETRY, random),
    );
    this.#timers.add(timer);
    const code = isMessagingError(cause) ? cause.code : "unconfirmed";
    const text = `entries of "${topic}" could not be removed; they stand there until they are, and it is tried again`;
    this.#notices.tell("removing", new MessagingError(code, text, { cause }));
  }

  #finish(removal: Removal, removed: boolean): void {
    this.#open.delete(removal);
    removal.done(removed);
  }
}
