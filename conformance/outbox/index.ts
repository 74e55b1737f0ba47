export type { Runner } from "../conformance.ts";
export type { CaseReport, CaseResult } from "../results.ts";
export type { RunCase } from "../run-case.ts";
export type { Outage } from "../stores/outage.ts";
export type { ProcessPlace } from "../stores/store-process.ts";
export { type AnyHarness, runCase, type StoreCase, type StoreContext } from "../stores/suite.ts";
export type {
  InboxHarness,
  InboxPlace,
  OpenInbox,
  OpenOutbox,
  OpenTransaction,
  OutboxHarness,
  OutboxPlace,
} from "./harness.ts";
export { INBOX_CASES, inboxConformance } from "./inbox-conformance.ts";
export { OUTBOX_CASES, outboxConformance } from "./outbox-conformance.ts";
