import type { Side } from "./state.ts";

/** The report of an instance. */
interface InstanceReport {
  readonly problem?: string;
  readonly journaled?: boolean;
  /** Deliveries in flight, by side. */
  readonly held?: Readonly<Record<Side, number>>;
  /** The number of the report. */
  readonly count?: number;
}

/** Parses a report; empty if it cannot be parsed. */
export function reportOf(text: string): InstanceReport {
  try {
    const report: unknown = JSON.parse(text);
    return typeof report === "object" && report !== null ? report : {};
  } catch {
    return {};
  }
}
