import type { MessagingError } from "../../core/errors.ts";
import { type Change, type ChangeTarget, requestChanges } from "./change-requests.ts";
import { KeptChanges } from "./kept-changes.ts";
import { MOST_ENTRIES } from "./sender.ts";

const MOST_TRIES = 5;
const FIRST_WAIT_MS = 50;
/** For so long others gather behind a delete at most: leases run on meanwhile. */
const MOST_GATHERING_MS = 200;

/** That SQS did it, that the message is not ours any more, or what stands against knowing either. */
export type Changed = "done" | "gone" | MessagingError;

/** What is done to messages: they are deleted, or hidden for a while. */
export type ChangeSort = "delete" | "hide";

/** A change on its way, and where its answer goes. */
interface Entry {
  readonly change: Change;
  /** Whether it is tried until SQS takes it, and not a few times only. */
  readonly keep: boolean;
  readonly answered: (changed: Changed) => void;
}

interface Failed {
  readonly entry: Entry;
  readonly error: MessagingError;
  readonly whole: boolean;
}

/**
 * Deletes and hides messages in batches of ten, every entry with an answer of its own.
 *
 * What is to be hidden goes at once. So do ten deletes; fewer go at once while no delete is under way, and gather
 * otherwise, until they are ten or what is under way has its answer, a moment at most. So a lone delete waits for nothing,
 * and batches grow with the load.
 */
export class Settling {
  readonly #target: ChangeTarget;
  readonly #kept: Readonly<Record<ChangeSort, KeptChanges>>;
  #gathered: Entry[] = [];
  #deleting = 0;

  /** `held` is told what keeps changes of a sort from going through, and with nothing when they do again. */
  constructor(target: ChangeTarget, held: (sort: ChangeSort, cause: MessagingError | undefined) => void) {
    this.#target = target;
    this.#kept = {
      delete: new KeptChanges(target, (cause) => held("delete", cause)),
      hide: new KeptChanges(target, (cause) => held("hide", cause)),
    };
  }

  /** What became of each, in order. Those to `keep` are tried until SQS takes them or the end, others a few times. */
  apply(changes: readonly Change[], keep: boolean): Promise<readonly Changed[]> {
    const hidden: Entry[] = [];
    const answers = changes.map((change) => {
      const kept = this.#keptOf(change);
      // What SQS refuses now it would refuse for this one too.
      if (keep && kept.cause !== undefined) return kept.keep(change, kept.cause);
      return new Promise<Changed>((answered) => {
        (change.visibilitySeconds === undefined ? this.#gathered : hidden).push({ change, keep, answered });
      });
    });
    while (hidden.length > 0) this.#begin(hidden.splice(0, MOST_ENTRIES));
    this.#delete();
    return Promise.all(answers);
  }

  /** Tries what is kept once more, and gives it up. */
  async end(): Promise<void> {
    await Promise.all([this.#kept.delete.end(), this.#kept.hide.end()]);
  }

  #keptOf({ visibilitySeconds }: Change): KeptChanges {
    return this.#kept[visibilitySeconds === undefined ? "delete" : "hide"];
  }

  async #begin(batch: readonly Entry[]): Promise<void> {
    this.#finish(await this.#try(batch));
  }

  #delete(): void {
    while (this.#gathered.length >= MOST_ENTRIES || (this.#gathered.length > 0 && this.#deleting === 0)) {
      const over = this.#underWay();
      this.#try(this.#gathered.splice(0, MOST_ENTRIES)).then((left) => {
        // What is tried again later keeps nobody waiting.
        over();
        this.#finish(left);
      });
    }
  }

  /** Counts a delete as under way until it is said to be over, or has taken too long for others to wait. */
  #underWay(): () => void {
    let counted = true;
    this.#deleting++;
    const over = (): void => {
      clearTimeout(timer);
      if (!counted) return;
      counted = false;
      this.#deleting--;
      this.#delete();
    };
    const timer = setTimeout(over, MOST_GATHERING_MS);
    return over;
  }

  /** Tries what has been tried once until SQS has an answer, or has been asked often enough in a row. */
  async #finish(batch: readonly Failed[]): Promise<void> {
    let left = batch;
    for (let tries = 1; left.length > 0 && tries < MOST_TRIES; tries++) {
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** tries));
      left = await this.#try(left.map(({ entry }) => entry));
    }
    // A change that fails alone is not worth the others of its batch, who wait for it.
    for (const { entry, error, whole } of left) this.#refused(entry, error, whole && entry.keep);
  }

  /** Those that may well be done at the next try. */
  async #try(batch: readonly Entry[]): Promise<readonly Failed[]> {
    const answers = await requestChanges(
      this.#target,
      batch.map(({ change }) => change),
    );
    const again: Failed[] = [];
    for (const [index, entry] of batch.entries()) {
      const answer = answers[index];
      if (answer === undefined) continue;
      if (answer.kind === "done" || answer.kind === "gone") entry.answered(answer.kind);
      else if (answer.kind === "again") again.push({ entry, ...answer });
      else this.#refused(entry, answer.error, entry.keep);
    }
    return again;
  }

  #refused({ change, answered }: Entry, error: MessagingError, keep: boolean): void {
    if (keep) this.#keptOf(change).keep(change, error).then(answered);
    else answered(error);
  }
}
