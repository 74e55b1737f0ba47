import type { Side } from "./state.ts";

/** What an instance said of itself. */
interface InstanceReport {
  readonly problem?: string;
  readonly journaled?: boolean;
  /** How many unsettled deliveries it has of each side. */
  readonly held?: Readonly<Record<Side, number>>;
  /** Counted up with each report. */
  readonly count?: number;
}

/** Reads it; empty where it cannot be read. */
export function reportOf(text: string): InstanceReport {
  try {
    const report: unknown = JSON.parse(text);
    return typeof report === "object" && report !== null ? report : {};
  } catch {
    return {};
  }
}
