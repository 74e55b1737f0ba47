export type { Edit } from "./actions.ts";
export {
  type Archive,
  type ArchivedEntry,
  type FileArchive,
  fileArchive,
  type MemoryArchive,
  memoryArchive,
} from "./archive.ts";
export type * from "./contract.ts";
export { fingerprint, normalisedError, type TargetAddress } from "./dead-letter.ts";
export { deadLetters } from "./dead-letters.ts";
export { type DeadLetterBody, type DeadLetterEntry, stringifyEntry, type Validity } from "./entry.ts";
export {
  type Condition,
  type DeadLetterFilter,
  type NumberOperator,
  parseFilter,
  printFilter,
  type TextField,
  type TextOperator,
  type TimeOperator,
} from "./filter.ts";
export type { DeadLetterGroup } from "./groups.ts";
export {
  type FileJournal,
  fileJournal,
  type Journal,
  type JournaledOutcome,
  type JournalLine,
  type MemoryJournal,
  memoryJournal,
} from "./journal.ts";
export { applyJsonPatch, type JsonPatch, type JsonPatchOperation, jsonPatchOf } from "./json-patch.ts";
export { type Plan, type PlannedEntry, type PlannedGroup, planFrom, type Refused } from "./plan.ts";
export { type ReportedGroup, type ReportedMessage, type ReportedPart, type RunReport, runReport } from "./report.ts";
export type { Pace, PaceOptions, Progress, Ramp, RunOptions } from "./run-options.ts";
export type { Audit, AuditEvent, Failure, Missing, MissingReason, RunResult, Stopped } from "./run-result.ts";
export type { DeadLetterScan } from "./scan.ts";
