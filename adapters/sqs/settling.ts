import { ChangeMessageVisibilityBatchCommand, DeleteMessageBatchCommand, type SQSClient } from "@aws-sdk/client-sqs";
import type { MessagingError } from "../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../core/retry-policy.ts";
import {
  asMessagingError,
  entryError,
  errorName,
  isGone,
  isMissing,
  isRefusal,
  isUnanswered,
  isUnauthorized,
} from "./errors.ts";
import { MOST_ENTRIES } from "./publisher.ts";

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
class KeptChanges {
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

/** A receipt, and for how many seconds the message is to be invisible from now on; none to delete it. */
export interface Change {
  readonly receipt: string;
  readonly visibilitySeconds?: number;
  /** From when on it does itself what it asks for, in milliseconds since 1970; undefined if it never does. */
  readonly until?: number;
}

/**
 * - `done`: SQS did it.
 * - `gone`: SQS said that the message is not ours any more.
 * - `again`: SQS did not say, or cannot for the moment; the next try may well do it.
 * - `refused`: SQS refuses it, for a reason that lasts and has nothing to do with whose the message is.
 */
type ChangeAnswer =
  | { readonly kind: "done" }
  | { readonly kind: "gone" }
  | {
      readonly kind: "again" | "refused";
      readonly error: MessagingError;
      /** Whether that was said of the request, and not of this change alone. */
      readonly whole: boolean;
    };

const DONE: ChangeAnswer = Object.freeze({ kind: "done" });
const GONE: ChangeAnswer = Object.freeze({ kind: "gone" });

/** What a request needs of its queue. */
export interface ChangeTarget {
  readonly client: SQSClient;
  readonly url: string;
  /** Names the source in messages to people. */
  readonly where: string;
  /** SQS did not take a request. */
  unanswered(cause: unknown): void;
  /** The queue is gone. */
  missing(): void;
}

/** Asks for changes of one sort, ten at most, and has an answer for each, in order. Never rejects. */
async function requestChanges(target: ChangeTarget, changes: readonly Change[]): Promise<readonly ChangeAnswer[]> {
  const deletes = changes[0]?.visibilitySeconds === undefined;
  const what = `${deletes ? "deleting" : "changing the visibility of"} messages of ${target.where}`;
  try {
    const { Successful = [], Failed = [] } = await send(target, changes, deletes);
    const answers = new Map<string | undefined, ChangeAnswer>();
    for (const { Id } of Successful) answers.set(Id, DONE);
    for (const { Id, Code = "", SenderFault = false, Message = "" } of Failed) {
      answers.set(Id, entryAnswer(what, Code, SenderFault, Message));
    }
    return changes.map((_, index) => answers.get(String(index)) ?? entryAnswer(what, "NotMentioned", false, ""));
  } catch (error) {
    if (isGone(errorName(error), String((error as Error | null)?.message ?? ""))) {
      if (changes.length === 1) return [GONE];
      // One of them, and SQS does not say which.
      return (await Promise.all(changes.map((change) => requestChanges(target, [change])))).flat();
    }
    if (isUnanswered(error)) target.unanswered(error);
    const kind = isRefusal(error) || isUnauthorized(error) ? "refused" : "again";
    const answer: ChangeAnswer = { kind, error: asMessagingError(what, error), whole: true };
    if (isMissing(error)) target.missing();
    return changes.map(() => answer);
  }
}

function send({ client, url }: ChangeTarget, changes: readonly Change[], deletes: boolean) {
  const entry = ({ receipt }: Change, index: number) => ({ Id: String(index), ReceiptHandle: receipt });
  if (deletes) return client.send(new DeleteMessageBatchCommand({ QueueUrl: url, Entries: changes.map(entry) }));
  const Entries = changes.map((change, index) => ({
    ...entry(change, index),
    VisibilityTimeout: change.visibilitySeconds ?? 0,
  }));
  return client.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl: url, Entries }));
}

function entryAnswer(what: string, code: string, senderFault: boolean, message: string): ChangeAnswer {
  if (isGone(code, message)) return GONE;
  const cause = entryError(code, senderFault, message);
  const kind = isRefusal(cause) || isUnauthorized(cause) ? "refused" : "again";
  return { kind, error: asMessagingError(what, cause), whole: false };
}

const MOST_TRIES = 5;
const FIRST_WAIT_MS = 50;
/** For so long others gather behind a delete at most: leases run on meanwhile. */
const MOST_GATHERING_MS = 200;

/** That SQS did it, that the message is not ours any more, or what stands against knowing either. */
export type Changed = "done" | "gone" | MessagingError;

/** What is done to messages: they are deleted, or hidden for a while. */
type ChangeSort = "delete" | "hide";

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
