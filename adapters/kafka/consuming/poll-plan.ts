import type { KafkaConnection } from "../port.ts";
import type { Cursor } from "./cursor.ts";

/** What is to be asked of a node in one long poll. */
export interface Poll {
  readonly cursors: Cursor[];
  /** Some of the partitions that the node leads are left out, and may want to be asked about soon. */
  partial: boolean;
}

/** What there is to be asked, now. */
export interface PollPlan {
  /** Those whose leader is to be found. */
  readonly lost: readonly Cursor[];
  /** By node, those whose position is to be found. */
  readonly placing: ReadonlyMap<number, readonly Cursor[]>;
  /** By node, those to be read. */
  readonly polls: ReadonlyMap<number, Poll>;
  /** When the first of those that wait has waited long enough. */
  readonly wakeAt: number;
}

export function planPolls(
  cursors: Iterable<Cursor>,
  now: number,
  connection: KafkaConnection,
  hasRoom: (cursor: Cursor) => boolean,
): PollPlan {
  const lost: Cursor[] = [];
  const placing = new Map<number, Cursor[]>();
  const polls = new Map<number, Poll>();
  let wakeAt = Number.POSITIVE_INFINITY;
  for (const cursor of cursors) {
    const { leader } = cursor;
    const waits = cursor.notBefore > now;
    if (waits) wakeAt = Math.min(wakeAt, cursor.notBefore);
    const free = cursor.busyOn !== connection && !waits;
    if (leader === undefined) {
      if (free) lost.push(cursor);
      continue;
    }
    const poll = polls.get(leader) ?? { cursors: [], partial: false };
    polls.set(leader, poll);
    if (free && cursor.placing !== undefined) placing.set(leader, [...(placing.get(leader) ?? []), cursor]);
    if (free && cursor.placing === undefined && hasRoom(cursor)) poll.cursors.push(cursor);
    else poll.partial = true;
  }
  return { lost, placing, polls, wakeAt };
}
