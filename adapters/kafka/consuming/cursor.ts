import type { KafkaConnection } from "../port.ts";
import type { OwnedPartition } from "./owned-partition.ts";

/** Where and how a partition is read. */
export class Cursor {
  readonly partition: OwnedPartition;
  /** When it came to be read. */
  readonly since: number;
  /** The node that leads it, as far as we know. */
  leader: number | undefined;
  /** The connection on which something about it is under way. */
  busyOn: KafkaConnection | undefined;
  /** Why its position is to be found out first; only right after its leader said that nothing is there. */
  placing: "uncommitted" | "out-of-range" | undefined;
  /** How often in a row its log ended before the position. */
  beyond = 0;
  /** When it was last asked about, counted in questions: who waited longest is asked about first. */
  turn = 0;
  /** A piece is to be so many times as large as others, because one did not hold a single batch. */
  enlarged = 1;
  failures = 0;
  notBefore = Number.NEGATIVE_INFINITY;
  /** When a failure was last told. */
  toldAt = Number.NEGATIVE_INFINITY;
  /** When it was last certain that its topic is still the same. */
  identifiedAt: number;
  /** When an answer about it came. */
  heardAt: number;
  /** When it last got on, or had nothing to get on with. */
  movedAt: number;
  /** How many offsets there were to read, and how many of them stood in no open transaction. */
  behind = 0;
  readable = 0;
  /** Whether the last answer was that a quota is used up. */
  throttled = false;
  /** Whether it was told that nothing is heard of it. */
  silent = false;

  constructor(partition: OwnedPartition, now: number) {
    this.partition = partition;
    this.since = now;
    this.identifiedAt = now;
    this.heardAt = now;
    this.movedAt = now;
  }

  succeeded(now: number): void {
    this.failures = 0;
    this.throttled = false;
    this.beyond = 0;
    this.toldAt = Number.NEGATIVE_INFINITY;
    this.heardAt = now;
  }
}
