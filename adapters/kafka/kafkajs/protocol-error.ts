import errors from "kafkajs/src/protocol/error.js";
import type { ErrorName } from "../port.ts";

/** Some that came after kafkajs. */
const LATER: readonly (readonly [code: number, name: string])[] = [
  [89, "THROTTLING_QUOTA_EXCEEDED"],
  [90, "PRODUCER_FENCED"],
  [100, "UNKNOWN_TOPIC_ID"],
  [103, "INCONSISTENT_TOPIC_ID"],
];

const NAMES: ReadonlyMap<number, string> = new Map([
  ...errors.errorCodes.map(({ code, type }) => [code, type] as const),
  ...LATER,
]);

/**
 * The name of an error code; undefined for 0, `UNKNOWN_<code>` for one that nobody here knows (most from 89 up).
 *
 * The names are kafkajs', which are the protocol's but for these, where it keeps an older one: `UNKNOWN` (-1, now
 * UNKNOWN_SERVER_ERROR), `NOT_LEADER_FOR_PARTITION` (6, now NOT_LEADER_OR_FOLLOWER), `GROUP_LOAD_IN_PROGRESS` (14, now COORDINATOR_LOAD_IN_PROGRESS),
 * `GROUP_COORDINATOR_NOT_AVAILABLE` (15, now COORDINATOR_NOT_AVAILABLE) and `NOT_COORDINATOR_FOR_GROUP` (16, now
 * NOT_COORDINATOR).
 */
export function errorName(code: number): ErrorName {
  return code === 0 ? undefined : (NAMES.get(code) ?? `UNKNOWN_${code}`);
}
