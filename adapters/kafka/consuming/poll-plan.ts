import type { KafkaConnection } from "../port.ts";
import type { Cursor } from "./cursor.ts";

/** What there is to be asked, now. */
export interface PollPlan {
  /** Those whose leader is to be found. */
  readonly lost: readonly Cursor[];
  /** By node, those whose position is to be found. */
  readonly placing: ReadonlyMap<number, readonly Cursor[]>;
  /** By node, those to be read. */
  readonly polls: ReadonlyMap<number, readonly Cursor[]>;
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
  const polls = new Map<number, Cursor[]>();
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
    if (!free) continue;
    if (cursor.placing !== undefined) push(placing, leader, cursor);
    else if (hasRoom(cursor)) push(polls, leader, cursor);
  }
  return { lost, placing, polls, wakeAt };
}

function push(byNode: Map<number, Cursor[]>, node: number, cursor: Cursor): void {
  const those = byNode.get(node);
  if (those === undefined) byNode.set(node, [cursor]);
  else those.push(cursor);
}
