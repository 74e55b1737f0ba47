/*
 * For the adapter around it:
 *
 * - What is sent to the dead letters of W goes to `W.dlq` as `deadLetterRecord(message, random)`.
 * - `W.dlq` has one partition and DEAD_LETTERS_CONFIGURATION; never trimmed. To verify: cleanup.policy is `compact` alone,
 *   delete.retention.ms at least TOMBSTONE_RETENTION_MS.
 * - receive({ kind: "dead-letters" }) is `receiveDeadLetters(dependencies, prefetch, sink)`, with `openLog: () => new
 *   PartitionLog({ topic: "W.dlq", partition: PARTITION }, { connection: client.connection(), … })` and `join: (owner) =>
 *   openMember({ group: "W.dlq", topics: ["W.dlq"], owner, … })`. Its tokens are the delivered records.
 * - depth({ kind: "dead-letters" }) is `{ ready: await countDeadLetters(openLog()), unsettled: undefined, exact: true }`.
 * - To list, look at and remove single entries without receiving: `DeadLettersScan.of(log)`, `entries(behind)`, and
 *   `new Remover(…).remove(scan.keysOf(entry.key))`.
 */

export type { DeadLettersDependencies, Log, Piece } from "./partition-log.ts";
export { PartitionLog, type PartitionLogDependencies } from "./partition-log.ts";
export { Remover, type RemoverDependencies, receiveDeadLetters } from "./receiver.ts";
export { DEAD_LETTERS_CONFIGURATION, deadLetterRecord, PARTITION, TOMBSTONE_RETENTION_MS } from "./records.ts";
export {
  countDeadLetters,
  type DeadLetterEntry,
  DeadLettersScan,
  lowestReferences,
  readReference,
  readThrough,
  referenceTo,
  referredRecords,
  referringLetter,
} from "./references.ts";
