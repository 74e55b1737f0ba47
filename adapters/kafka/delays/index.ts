/*
 * For the adapter around it:
 *
 * - A send with `delayMs` to X goes to `X.delays` as `delayedRecord(record, dueAfter(now, delayMs), now)`, `record` being
 *   what would go to X itself, and `now` the time of day. Its partition is the level and must be kept.
 * - `X.delays` has exactly `LEVELS` partitions, cleanup.policy=delete, retention.ms=-1, and is trimmed behind the
 *   committed offsets of group `X.delays`. Its timestamps are not used. Its max.message.bytes is that of X, so that
 *   what fits here, with the header about the delay, fits there.
 * - Each process that receives from X (of a topic: from any subscription of it) has one `new DelayForwarder(dependencies, { topic:
 *   X, delays, group })` per X, and closes it before the producer. It never fails: it tries again and gives notice.
 *   Its partitions stand still for up to 4,096 s with full windows; that is no stall.
 */

export type { DelayedDestination, ForwarderDependencies } from "./forwarder.ts";
export { DelayForwarder } from "./forwarder.ts";
export { DELAY_HEADER, delayedRecord, dueAfter, LEVELS } from "./levels.ts";
