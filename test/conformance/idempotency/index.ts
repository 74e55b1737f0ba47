export type { CaseReport, CaseResult } from "../case.ts";
export type { Runner } from "../conformance.ts";
export type { RunCase } from "../run-case.ts";
export type { StoreCase } from "./case.ts";
export { STORE_CASES, storeConformance } from "./conformance.ts";
export type { StoreContext } from "./context.ts";
export type { OpenStore, Outage, ProcessStore, StoreHarness } from "./harness.ts";
export { runStoreCase } from "./run-case.ts";
