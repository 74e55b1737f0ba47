import type { ErrorName, PartitionBatch, ProduceOutcome, TopicId } from "../port.ts";
import type { Lane } from "./lane.ts";

/** The most bytes of one request, as far as whole batches allow. */
const MOST_REQUEST_BYTES = 8 * 1024 * 1024;

/** A lane and the batch of it that goes out. */
export interface Sending {
  readonly lane: Lane;
  readonly batch: PartitionBatch;
}

export function sendingOf(lane: Lane, topicId: TopicId, batch: Uint8Array): Sending {
  return { lane, batch: { topic: lane.topic, topicId, partition: lane.partition, batch } };
}

/** What goes to one node, in as few requests as may be. */
export function inRequests(sendings: readonly Sending[]): readonly (readonly Sending[])[] {
  const requests: Sending[][] = [];
  let size = Number.POSITIVE_INFINITY;
  for (const sending of sendings) {
    const { length } = sending.batch.batch;
    if (size + length > MOST_REQUEST_BYTES) {
      requests.push([]);
      size = 0;
    }
    requests.at(-1)?.push(sending);
    size += length;
  }
  return requests;
}

/** What was said of a lane's batch; an error, if nothing was. */
export function outcomeFor({ topic, partition }: Lane, outcomes: readonly ProduceOutcome[]): ErrorName {
  const outcome = outcomes.find((one) => one.partition === partition && one.topic === topic);
  return outcome === undefined ? "NO_ANSWER" : outcome.error;
}
