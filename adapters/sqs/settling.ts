import { ChangeMessageVisibilityBatchCommand, DeleteMessageBatchCommand, type SQSClient } from "@aws-sdk/client-sqs";
import { isNotOurs, isRefusal } from "./errors.ts";
import { MOST_ENTRIES } from "./sender.ts";

const MOST_TRIES = 5;
const FIRST_WAIT_MS = 50;
/** For so long others gather behind a delete at most: leases run on meanwhile. */
const MOST_GATHERING_MS = 200;

/** A receipt, and for how many seconds the message is to be invisible from now on; none to delete it. */
export interface Change {
  readonly receipt: string;
  readonly visibilitySeconds?: number;
}

/**
 * - `done`: SQS did it.
 * - `refused`: SQS said no; the message is not ours any more.
 * - `unknown`: SQS did not say, however often it was asked.
 */
export type Changed = "done" | "refused" | "unknown";

/** A change on its way, and where its answer goes. */
interface Entry {
  readonly change: Change;
  readonly results: Changed[];
  readonly position: number;
  /** Told when there is an answer, or none is waited for any more. */
  readonly over: () => void;
}

/**
 * Deletes and hides messages in batches of ten, every entry with an answer of its own.
 *
 * What is to be hidden goes at once. So do ten deletes; fewer go at once while no delete is under way, and gather
 * otherwise, until they are ten or what is under way has its answer, a moment at most. So a lone delete waits for nothing,
 * and batches grow with the load.
 */
export class Settling {
  readonly #client: SQSClient;
  readonly #url: string;
  readonly #unanswered: (cause: unknown) => void;
  #gathered: Entry[] = [];
  #deleting = 0;

  /** `unanswered` is told of requests that SQS did not take. */
  constructor(client: SQSClient, url: string, unanswered: (cause: unknown) => void) {
    this.#client = client;
    this.#url = url;
    this.#unanswered = unanswered;
  }

  /** What became of each, in order. What fails without being refused is tried again a few times. */
  apply(changes: readonly Change[]): Promise<readonly Changed[]> {
    const results: Changed[] = new Array(changes.length).fill("unknown");
    if (changes.length === 0) return Promise.resolve(results);
    return new Promise((resolve) => {
      let left = changes.length;
      const over = (): void => {
        if (--left === 0) resolve(results);
      };
      const hidden: Entry[] = [];
      for (const [position, change] of changes.entries()) {
        const kind = change.visibilitySeconds === undefined ? this.#gathered : hidden;
        kind.push({ change, results, position, over });
      }
      while (hidden.length > 0) this.#finish(hidden.splice(0, MOST_ENTRIES), 0);
      this.#delete();
    });
  }

  #delete(): void {
    while (this.#gathered.length >= MOST_ENTRIES || (this.#gathered.length > 0 && this.#deleting === 0)) {
      const over = this.#underWay();
      this.#try(this.#gathered.splice(0, MOST_ENTRIES)).then((left) => {
        // What is tried again later keeps nobody waiting.
        over();
        this.#finish(left, 1);
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

  /** Tries what has had so many tries until SQS says yes or no, or has been asked often enough. */
  async #finish(batch: readonly Entry[], made: number): Promise<void> {
    let left = batch;
    for (let tries = made; left.length > 0 && tries < MOST_TRIES; tries++) {
      if (tries > 0) await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** tries));
      left = await this.#try(left);
    }
    for (const { over } of left) over();
  }

  /** Those of which SQS said neither yes nor no. */
  async #try(batch: readonly Entry[]): Promise<readonly Entry[]> {
    const answers = new Map<string | undefined, Changed>();
    try {
      const { Successful = [], Failed = [] } = await this.#request(batch);
      for (const { Id } of Successful) answers.set(Id, "done");
      for (const { Id, Code = "", SenderFault = false } of Failed) {
        if (SenderFault || isNotOurs(Code)) answers.set(Id, "refused");
      }
    } catch (error) {
      if (isRefusal(error)) for (const index of batch.keys()) answers.set(String(index), "refused");
      else this.#unanswered(error);
    }
    return batch.filter(({ results, position, over }, index) => {
      const answer = answers.get(String(index));
      if (answer === undefined) return true;
      results[position] = answer;
      over();
      return false;
    });
  }

  #request(batch: readonly Entry[]) {
    const entry = ({ change }: Entry, index: number) => ({ Id: String(index), ReceiptHandle: change.receipt });
    if (batch[0]?.change.visibilitySeconds === undefined) {
      return this.#client.send(new DeleteMessageBatchCommand({ QueueUrl: this.#url, Entries: batch.map(entry) }));
    }
    const Entries = batch.map((hidden, index) => ({
      ...entry(hidden, index),
      VisibilityTimeout: hidden.change.visibilitySeconds ?? 0,
    }));
    return this.#client.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl: this.#url, Entries }));
  }
}
