import type { Side } from "./state.ts";

/** What an instance said of itself. */
export interface InstanceReport {
  readonly problem?: string;
  readonly journaled?: boolean;
  readonly held?: Readonly<Record<Side, number>>;
}

/** Reads it; empty where it cannot be read. */
export function reportOf(text: string): InstanceReport {
  try {
    return JSON.parse(text) as InstanceReport;
  } catch {
    return {};
  }
}
