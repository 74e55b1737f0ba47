import type { Clock, Random } from "../../../core/clock.ts";
import type { KafkaClient } from "../port.ts";
import type { MemberOwner } from "./contract.ts";

/** How to be a member of a group. */
export interface MemberOptions {
  readonly client: KafkaClient;
  readonly group: string;
  /** What to read. Members may differ in it for a while, as when a new version is rolled out. */
  readonly topics: readonly string[];
  /** After so many milliseconds without a sign of life a member's partitions go to others. Default 30,000. */
  readonly sessionTimeoutMs?: number;
  /**
   * How long its owner may take to let partitions go, in milliseconds, before they are lost. Others wait as long for a
   * member to join again, and at least for its session timeout: a member that is out of the group has to know.
   */
  readonly rebalanceTimeoutMs: number;
  /** Default 1,000, at most a third of the session timeout: others wait so long for us at each change. */
  readonly heartbeatMs?: number;
  readonly owner: MemberOwner;
  readonly clock: Clock;
  readonly random: Random;
}
