export type { CaseReport, CaseResult } from "../case.ts";
export type { Runner } from "../conformance.ts";
export type { RunCase } from "../run-case.ts";
export type {
  InboxHarness,
  InboxPlace,
  OpenInbox,
  OpenOutbox,
  OpenTransaction,
  Outage,
  OutboxHarness,
  OutboxPlace,
  ProcessPlace,
} from "./harness.ts";
export { INBOX_CASES, inboxConformance } from "./inbox-conformance.ts";
export { OUTBOX_CASES, outboxConformance } from "./outbox-conformance.ts";
export { type AnyHarness, runCase, type StoreCase, type StoreContext } from "./suite.ts";
