export type { ConformanceCase } from "./case.ts";
export { type CaseSelection, conformance, type Runner, SECTIONS } from "./conformance.ts";
export type { CaseContext } from "./context.ts";
export type { ForeignSender, Harness, ProcessAdapter } from "./harness.ts";
export { type CaseReport, type CaseResult, formatReports } from "./results.ts";
export { type RunCase, runCase } from "./run-case.ts";
