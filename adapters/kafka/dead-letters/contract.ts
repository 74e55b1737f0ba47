import type { Clock, Random } from "../../../core/clock.ts";
import type { HeldRecord } from "../consuming/contract.ts";
import type { GroupMember, MemberOwner } from "../group/contract.ts";
import type { TopicId, TopicPartition } from "../port.ts";
import type { Producer } from "../producing/contract.ts";
import type { LogRecord, UnreadableBatch } from "../records/contract.ts";

/** A stretch of a log. */
export interface Piece {
  readonly records: readonly LogRecord[];
  /** Where to read on. */
  readonly nextOffset: number;
  /** Where reading ended when it was read: where the next record comes. */
  readonly end: number;
  /** What stands at `nextOffset`, if it cannot be read. */
  readonly unreadable: UnreadableBatch | undefined;
}

/** The log of dead letters, over a connection of its own. */
export interface Log extends TopicPartition {
  /** The topic that is read; undefined before that is known. */
  readonly topicId: TopicId | undefined;
  /** The first offset that is kept, by the topic that has the name now. Rejects with `not-found` if there is none. */
  first(): Promise<number>;
  /**
   * What stands from an offset on, at most about a mebibyte; waits so long for something to come. Tries for a while, then
   * rejects. `out-of-range` if the log begins later or ends before, or if the topic was deleted and made again since
   * `first`, or the first reading.
   */
  read(from: number, maxWaitMs: number): Promise<Piece | "out-of-range">;
  /** What is under way rejects with `closed`. */
  close(): Promise<void>;
}

/** What a receiver of dead letters works with. */
export interface DeadLettersHost {
  readonly producer: Producer;
  readonly clock: Clock;
  readonly random: Random;
  /** Opens the log once more. */
  openLog(): Log;
  /** Joins the group in which one member at a time has the dead letters. */
  join(owner: MemberOwner): GroupMember;
  /** What it says no to is passed over, and stands as it is. */
  readonly wanted?: (held: HeldRecord) => boolean;
}
