import type { MessagingError } from "../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../core/retry-policy.ts";
import { type Change, type ChangeTarget, requestChanges } from "./change-requests.ts";
import { MOST_ENTRIES } from "./sender.ts";

const AGAIN: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 5_000 });

interface Kept {
  readonly change: Change;
  readonly answered: (answer: "done" | "gone" | MessagingError) => void;
  error: MessagingError;
}

/**
 * Changes of one sort that SQS refuses, or does not answer for, for a reason that is none of theirs: a right that is
 * missing, a token that has expired, throttling that lasts. They are tried again, ten of them first, until SQS takes them or
 * says that the message is not ours any more.
 */
export class KeptChanges {
  readonly #target: ChangeTarget;
  readonly #changed: (cause: MessagingError | undefined) => void;
  readonly #kept = new Set<Kept>();
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #trying: Promise<void> = Promise.resolve();
  #ended = false;

  /** `changed` is told why there are any, and with nothing when there are none any more. */
  constructor(target: ChangeTarget, changed: (cause: MessagingError | undefined) => void) {
    this.#target = target;
    this.#changed = changed;
  }

  /** Why some are kept: what comes now would fare the same. */
  get cause(): MessagingError | undefined {
    const [first] = this.#kept;
    return first?.error;
  }

  /** Keeps a change. Resolves with its answer, or with what stood against it when it was given up. */
  keep(change: Change, error: MessagingError): Promise<"done" | "gone" | MessagingError> {
    if (this.#ended) return Promise.resolve(error);
    return new Promise((answered) => {
      this.#kept.add({ change, answered, error });
      this.#tell();
      this.#tryLater();
    });
  }

  /** Tries once more, and gives up what is left then. */
  async end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#trying;
    await this.#try();
    for (const kept of this.#kept) this.#answer(kept, kept.error);
  }

  #tell(): void {
    this.#changed(this.cause);
  }

  #tryLater(): void {
    if (this.#timer !== undefined || this.#ended || this.#kept.size === 0) return;
    const wait = backoffMs(++this.#failures, AGAIN);
    this.#timer = setTimeout(() => {
      this.#trying = this.#try().then(() => {
        this.#timer = undefined;
        if (this.#kept.size === 0) this.#failures = 0;
        this.#tryLater();
      });
    }, wait);
  }

  /** Ten at a time, as long as SQS says something of each. */
  async #try(): Promise<void> {
    const now = Date.now();
    for (const kept of this.#kept) {
      if (kept.change.until !== undefined && kept.change.until <= now) this.#answer(kept, kept.error);
    }
    const left = [...this.#kept];
    for (let stopped = false; left.length > 0 && !stopped; ) {
      const batch = left.splice(0, MOST_ENTRIES);
      const answers = await requestChanges(
        this.#target,
        batch.map(({ change }) => change),
      );
      for (const [index, kept] of batch.entries()) {
        const answer = answers[index];
        if (answer === undefined) continue;
        if (answer.kind === "done" || answer.kind === "gone") this.#answer(kept, answer.kind);
        else {
          kept.error = answer.error;
          stopped ||= answer.whole;
        }
      }
    }
    this.#tell();
  }

  #answer(kept: Kept, answer: "done" | "gone" | MessagingError): void {
    this.#kept.delete(kept);
    kept.answered(answer);
  }
}
