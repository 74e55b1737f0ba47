import { appendFileSync } from "node:fs";
import type { BrokerOrigin } from "./contract.ts";

/** What became of one broker, for the closing summary. */
export type BrokerReport =
  | { readonly name: string; readonly status: "running"; readonly how: BrokerOrigin; readonly version: string }
  | { readonly name: string; readonly status: "not-run"; readonly reason: string };

/** Appends to the file named by `RUN_REPORT` as a JSON line; without that variable does nothing. */
export function appendToReport(kind: string, entry: object): void {
  const file = process.env.RUN_REPORT;
  if (file) appendFileSync(file, `${JSON.stringify({ kind, ...entry })}\n`);
}

export function recordBroker(report: BrokerReport): void {
  appendToReport("broker", report);
}
