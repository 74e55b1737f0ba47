import { ChangeMessageVisibilityBatchCommand, DeleteMessageBatchCommand, type SQSClient } from "@aws-sdk/client-sqs";
import { isAnswer, isNotOurs } from "./errors.ts";
import { MOST_ENTRIES } from "./sender.ts";

const MOST_TRIES = 4;
const FIRST_WAIT_MS = 100;

/** A receipt, and for how many seconds the message is to be invisible from now on; none to delete it. */
export interface Change {
  readonly receipt: string;
  readonly visibilitySeconds?: number;
}

/** Deletes and hides messages in batches of ten, every entry with an answer of its own. */
export class Settling {
  readonly #client: SQSClient;
  readonly #url: string;

  constructor(client: SQSClient, url: string) {
    this.#client = client;
    this.#url = url;
  }

  /** Whether each was done. What fails without being refused is tried again a few times. */
  async apply(changes: readonly Change[]): Promise<readonly boolean[]> {
    const done: boolean[] = new Array(changes.length).fill(false);
    const positions = [...changes.keys()];
    const deletes = positions.filter((position) => changes[position]?.visibilitySeconds === undefined);
    const others = positions.filter((position) => changes[position]?.visibilitySeconds !== undefined);
    await Promise.all([...chunks(deletes), ...chunks(others)].map((chunk) => this.#chunk(changes, chunk, done)));
    return done;
  }

  async #chunk(changes: readonly Change[], chunk: readonly number[], done: boolean[]): Promise<void> {
    let left = chunk;
    for (let tries = 1; left.length > 0; tries++) {
      const again: number[] = [];
      try {
        const failed = await this.#request(changes, left);
        for (const position of left) {
          const failure = failed.get(String(position));
          if (failure === undefined) done[position] = true;
          else if (!isNotOurs(failure.code) && !failure.senderFault) again.push(position);
        }
      } catch (error) {
        const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode ?? 0;
        if (!isAnswer(error) || status >= 500 || status === 429) again.push(...left);
      }
      if (tries === MOST_TRIES) return;
      left = again;
      if (left.length > 0) await new Promise((resolve) => setTimeout(resolve, FIRST_WAIT_MS * 2 ** tries));
    }
  }

  async #request(
    changes: readonly Change[],
    chunk: readonly number[],
  ): Promise<ReadonlyMap<string, { readonly code: string; readonly senderFault: boolean }>> {
    const entry = (position: number) => ({
      Id: String(position),
      ReceiptHandle: changes[position]?.receipt ?? "",
    });
    const hides = changes[chunk[0] ?? 0]?.visibilitySeconds !== undefined;
    const { Failed = [] } = hides
      ? await this.#client.send(
          new ChangeMessageVisibilityBatchCommand({
            QueueUrl: this.#url,
            Entries: chunk.map((position) => ({
              ...entry(position),
              VisibilityTimeout: changes[position]?.visibilitySeconds ?? 0,
            })),
          }),
        )
      : await this.#client.send(new DeleteMessageBatchCommand({ QueueUrl: this.#url, Entries: chunk.map(entry) }));
    return new Map(
      Failed.map(({ Id = "", Code = "", SenderFault = false }) => [Id, { code: Code, senderFault: SenderFault }]),
    );
  }
}

function chunks(positions: readonly number[]): number[][] {
  const made: number[][] = [];
  for (let from = 0; from < positions.length; from += MOST_ENTRIES)
    made.push(positions.slice(from, from + MOST_ENTRIES));
  return made;
}
