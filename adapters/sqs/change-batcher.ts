import { ChangeMessageVisibilityBatchCommand, DeleteMessageBatchCommand, type SQSClient } from "@aws-sdk/client-sqs";
import { MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
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
import { MAX_ENTRIES } from "./publisher.ts";

const RETRY: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 5_000 });

interface WaitingChange {
  readonly change: Change;
  readonly answered: (answer: "done" | "gone" | MessagingError) => void;
  error: MessagingError;
}

/**
 * Changes of one kind that SQS refuses, or does not answer, for a reason outside of them: a missing permission, an
 * expired token, lasting throttling. It retries them, the oldest ten first, until SQS accepts them or says that the
 * lease is gone.
 */
class WaitingChanges {
  readonly #target: ChangeTarget;
  readonly #changed: (cause: MessagingError | undefined) => void;
  readonly #waiting = new Set<WaitingChange>();
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #trying: Promise<void> = Promise.resolve();
  #ended = false;

  /** `changed` gets the reason while there are such changes, and undefined when there are none. */
  constructor(target: ChangeTarget, changed: (cause: MessagingError | undefined) => void) {
    this.#target = target;
    this.#changed = changed;
  }

  /** Why changes wait; new ones would fail in the same way. */
  get cause(): MessagingError | undefined {
    const [first] = this.#waiting;
    return first?.error;
  }

  /** Adds a change. Resolves with its answer, or with the last error if it is given up. */
  keep(change: Change, error: MessagingError): Promise<"done" | "gone" | MessagingError> {
    if (this.#ended) return Promise.resolve(error);
    return new Promise((answered) => {
      this.#waiting.add({ change, answered, error });
      this.#reportCause();
      this.#tryLater();
    });
  }

  /** Tries once more, and gives up the rest. */
  async end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#timer);
    await this.#trying;
    await this.#try();
    for (const waiting of this.#waiting) this.#answer(waiting, waiting.error);
  }

  #reportCause(): void {
    this.#changed(this.cause);
  }

  #tryLater(): void {
    if (this.#timer !== undefined || this.#ended || this.#waiting.size === 0) return;
    const wait = backoffMs(++this.#failures, RETRY);
    this.#timer = setTimeout(() => {
      this.#trying = this.#try().then(() => {
        this.#timer = undefined;
        if (this.#waiting.size === 0) this.#failures = 0;
        this.#tryLater();
      });
    }, wait);
  }

  /** Tries ten at a time, as long as SQS answers for each. */
  async #try(): Promise<void> {
    const now = Date.now();
    for (const waiting of this.#waiting) {
      if (waiting.change.until !== undefined && waiting.change.until <= now) this.#answer(waiting, waiting.error);
    }
    const left = [...this.#waiting];
    for (let stopped = false; left.length > 0 && !stopped; ) {
      const batch = left.splice(0, MAX_ENTRIES);
      const answers = await requestChanges(
        this.#target,
        batch.map(({ change }) => change),
      );
      for (const [index, waiting] of batch.entries()) {
        const answer = answers[index];
        if (answer === undefined) continue;
        if (answer.kind === "done" || answer.kind === "gone") this.#answer(waiting, answer.kind);
        else {
          waiting.error = answer.error;
          stopped ||= answer.whole;
        }
      }
    }
    this.#reportCause();
  }

  #answer(waiting: WaitingChange, answer: "done" | "gone" | MessagingError): void {
    this.#waiting.delete(waiting);
    waiting.answered(answer);
  }
}

/** A change of one message: a new visibility timeout, or its deletion if there is none. */
export interface Change {
  readonly receipt: string;
  readonly visibilitySeconds?: number;
  /** When the change happens without a request, in milliseconds since 1970; undefined if never. */
  readonly until?: number;
}

/**
 * - `done`: SQS did it.
 * - `gone`: the lease is gone, or the message.
 * - `again`: SQS did not answer, or cannot do it for the moment; another try may succeed.
 * - `refused`: SQS refuses it for a reason that lasts and does not concern the lease.
 */
type ChangeAnswer =
  | { readonly kind: "done" }
  | { readonly kind: "gone" }
  | {
      readonly kind: "again" | "refused";
      readonly error: MessagingError;
      /** Whether the answer is for the whole request, not for this change alone. */
      readonly whole: boolean;
    };

const DONE: ChangeAnswer = Object.freeze({ kind: "done" });
const GONE: ChangeAnswer = Object.freeze({ kind: "gone" });

/** What a request needs to know of its queue. */
export interface ChangeTarget {
  readonly client: SQSClient;
  readonly url: string;
  /** The source's name in error messages. */
  readonly where: string;
  /** SQS did not answer a request. */
  unanswered(cause: unknown): void;
  /** The queue is gone. */
  missing(): void;
}

/** Sends at most ten changes of one kind, and returns an answer for each, in order. Never rejects. */
async function requestChanges(target: ChangeTarget, changes: readonly Change[]): Promise<readonly ChangeAnswer[]> {
  const deletes = changes[0]?.visibilitySeconds === undefined;
  const what = `${deletes ? "deleting" : "changing the visibility of"} messages of ${target.where}`;
  try {
    return await ask(target, changes, what, deletes);
  } catch (cause) {
    // Several callers do not wait for the end of a change, and an unhandled rejection would end the process.
    const error = new MessagingError("unreachable", `${what}: the answer cannot be read; see the cause`, { cause });
    return changes.map(() => ({ kind: "again", error, whole: true }));
  }
}

async function ask(
  target: ChangeTarget,
  changes: readonly Change[],
  what: string,
  deletes: boolean,
): Promise<readonly ChangeAnswer[]> {
  try {
    const { Successful = [], Failed = [] } = await send(target, changes, deletes);
    const answers = new Map<string | undefined, ChangeAnswer>();
    for (const { Id } of Successful) answers.set(Id, DONE);
    for (const { Id, Code = "", SenderFault = false, Message = "" } of Failed) {
      answers.set(Id, entryAnswer(what, Code, SenderFault, Message));
    }
    return changes.map((_, index) => answers.get(String(index)) ?? entryAnswer(what, "NotMentioned", false, ""));
  } catch (error) {
    if (isGone(errorName(error), thrownText(error))) {
      if (changes.length === 1) return [GONE];
      // One of them is gone, and SQS does not say which.
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

const MAX_TRIES = 5;
const FIRST_WAIT_MS = 50;
/** The longest time that deletes wait for others: leases continue to run. */
const MAX_BATCH_WAIT_MS = 200;

/** The result of a change: SQS did it, the lease is gone, or an error says why neither is known. */
export type Changed = "done" | "gone" | MessagingError;

/** Deletes messages, or changes their visibility. */
type ChangeKind = "delete" | "hide";

/** A change in progress. */
interface Entry {
  readonly change: Change;
  /** Whether it is retried until SQS accepts it, not only a few times. */
  readonly keep: boolean;
  readonly answered: (changed: Changed) => void;
}

interface Failed {
  readonly entry: Entry;
  readonly error: MessagingError;
  readonly whole: boolean;
}

/**
 * Deletes and hides messages in batches of ten, with a result for each.
 *
 * Changes of visibility are sent at once, and ten deletes too. Fewer deletes are sent at once if no delete is in
 * progress; otherwise they wait until they are ten or the one in progress has its answer, for a moment at most. So a
 * single delete does not wait, and batches grow with the load.
 */
export class ChangeBatcher {
  readonly #target: ChangeTarget;
  readonly #waiting: Readonly<Record<ChangeKind, WaitingChanges>>;
  #deletes: Entry[] = [];
  #deleting = 0;

  /** `onWaiting` gets the reason while changes of a kind do not succeed, and undefined when they do again. */
  constructor(target: ChangeTarget, onWaiting: (kind: ChangeKind, cause: MessagingError | undefined) => void) {
    this.#target = target;
    this.#waiting = {
      delete: new WaitingChanges(target, (cause) => onWaiting("delete", cause)),
      hide: new WaitingChanges(target, (cause) => onWaiting("hide", cause)),
    };
  }

  /** Returns the results in order. With `keep` it retries until SQS accepts or `end`, otherwise a few times. */
  apply(changes: readonly Change[], keep: boolean): Promise<readonly Changed[]> {
    const hidden: Entry[] = [];
    const answers = changes.map((change) => {
      const waiting = this.#waitingOf(change);
      // This change would be refused too.
      if (keep && waiting.cause !== undefined) return waiting.keep(change, waiting.cause);
      return new Promise<Changed>((answered) => {
        (change.visibilitySeconds === undefined ? this.#deletes : hidden).push({ change, keep, answered });
      });
    });
    while (hidden.length > 0) this.#begin(hidden.splice(0, MAX_ENTRIES));
    this.#delete();
    return Promise.all(answers);
  }

  /** Tries the waiting changes once more, and gives them up. */
  async end(): Promise<void> {
    await Promise.all([this.#waiting.delete.end(), this.#waiting.hide.end()]);
  }

  #waitingOf({ visibilitySeconds }: Change): WaitingChanges {
    return this.#waiting[visibilitySeconds === undefined ? "delete" : "hide"];
  }

  async #begin(batch: readonly Entry[]): Promise<void> {
    this.#finish(await this.#try(batch));
  }

  #delete(): void {
    while (this.#deletes.length >= MAX_ENTRIES || (this.#deletes.length > 0 && this.#deleting === 0)) {
      const over = this.#countDelete();
      this.#try(this.#deletes.splice(0, MAX_ENTRIES)).then((left) => {
        // A later retry keeps no other delete waiting.
        over();
        this.#finish(left);
      });
    }
  }

  /** Counts a delete as in progress until the returned function is called, or for a moment at most. */
  #countDelete(): () => void {
    let counted = true;
    this.#deleting++;
    const over = (): void => {
      clearTimeout(timer);
      if (!counted) return;
      counted = false;
      this.#deleting--;
      this.#delete();
    };
    const timer = setTimeout(over, MAX_BATCH_WAIT_MS);
    return over;
  }

  /** Retries failed changes a few times in a row. */
  async #finish(batch: readonly Failed[]): Promise<void> {
    let left = batch;
    for (let tries = 1; left.length > 0 && tries < MAX_TRIES; tries++) {
      await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** tries));
      left = await this.#try(left.map(({ entry }) => entry));
    }
    // A change that fails alone must not delay the others of its batch.
    for (const { entry, error, whole } of left) this.#refused(entry, error, whole && entry.keep);
  }

  /** Tries changes, and returns those whose next try may succeed. */
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
    if (keep) this.#waitingOf(change).keep(change, error).then(answered);
    else answered(error);
  }
}
