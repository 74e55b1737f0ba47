import { ChangeMessageVisibilityBatchCommand, DeleteMessageBatchCommand, type SQSClient } from "@aws-sdk/client-sqs";
import { isNotOurs, isRefusal } from "./errors.ts";
import { MOST_ENTRIES } from "./sender.ts";

const MOST_TRIES = 5;
const FIRST_WAIT_MS = 50;

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

/** Deletes and hides messages in batches of ten, every entry with an answer of its own. */
export class Settling {
  readonly #client: SQSClient;
  readonly #url: string;
  readonly #unanswered: (cause: unknown) => void;

  /** `unanswered` is told of requests that SQS did not take. */
  constructor(client: SQSClient, url: string, unanswered: (cause: unknown) => void) {
    this.#client = client;
    this.#url = url;
    this.#unanswered = unanswered;
  }

  /** What became of each, in order. What fails without being refused is tried again a few times. */
  async apply(changes: readonly Change[]): Promise<readonly Changed[]> {
    const results: Changed[] = new Array(changes.length).fill("unknown");
    const positions = [...changes.keys()];
    const deletes = positions.filter((position) => changes[position]?.visibilitySeconds === undefined);
    const others = positions.filter((position) => changes[position]?.visibilitySeconds !== undefined);
    await Promise.all([...chunks(deletes), ...chunks(others)].map((chunk) => this.#chunk(changes, chunk, results)));
    return results;
  }

  async #chunk(changes: readonly Change[], chunk: readonly number[], results: Changed[]): Promise<void> {
    let left = chunk;
    for (let tries = 1; left.length > 0; tries++) {
      left = await this.#try(changes, left, results);
      if (tries === MOST_TRIES) return;
      if (left.length > 0) await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** tries));
    }
  }

  /** The positions of which SQS said neither yes nor no. */
  async #try(changes: readonly Change[], chunk: readonly number[], results: Changed[]): Promise<readonly number[]> {
    try {
      const { Successful = [], Failed = [] } = await this.#request(changes, chunk);
      for (const { Id } of Successful) results[Number(Id)] = "done";
      for (const { Id, Code = "", SenderFault = false } of Failed) {
        if (SenderFault || isNotOurs(Code)) results[Number(Id)] = "refused";
      }
    } catch (error) {
      if (isRefusal(error)) for (const position of chunk) results[position] = "refused";
      else this.#unanswered(error);
    }
    return chunk.filter((position) => results[position] === "unknown");
  }

  #request(changes: readonly Change[], chunk: readonly number[]) {
    const entry = (position: number) => ({ Id: String(position), ReceiptHandle: changes[position]?.receipt ?? "" });
    if (changes[chunk[0] ?? 0]?.visibilitySeconds === undefined) {
      return this.#client.send(new DeleteMessageBatchCommand({ QueueUrl: this.#url, Entries: chunk.map(entry) }));
    }
    const Entries = chunk.map((position) => ({
      ...entry(position),
      VisibilityTimeout: changes[position]?.visibilitySeconds ?? 0,
    }));
    return this.#client.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl: this.#url, Entries }));
  }
}

function chunks(positions: readonly number[]): number[][] {
  const made: number[][] = [];
  for (let from = 0; from < positions.length; from += MOST_ENTRIES)
    made.push(positions.slice(from, from + MOST_ENTRIES));
  return made;
}
