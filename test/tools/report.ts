import { existsSync, readFileSync } from "node:fs";
import type { BrokerReport } from "../brokers/run-report.ts";

/** A test that did not pass, and why. */
export interface TestReason {
  readonly test: string;
  readonly reason: string;
}

/** What one run of vitest came to, as the count reporter wrote it. */
interface TestCounts {
  readonly passed: number;
  readonly failed: readonly TestReason[];
  readonly notRun: readonly TestReason[];
  /** What cannot be tried there, for a reason that the test names. */
  readonly notApplicable: readonly TestReason[];
  /** What passed at the second try: something is wrong there, if only now and then. */
  readonly unsteady: readonly TestReason[];
  /** The files that took longest, with their seconds from the first test to the last. */
  readonly slowest: readonly { readonly file: string; readonly seconds: number }[];
}

/** Everything that one part of the whole set left behind. */
export interface PartResult {
  readonly name: string;
  readonly exitCode: number;
  readonly seconds: number;
  /** Undefined for a part that has no tests of its own, or that ended before it could count. */
  readonly counts: TestCounts | undefined;
  readonly brokers: readonly BrokerReport[];
}

/** Reads the report of one part. */
export function readPart(name: string, exitCode: number, file: string, seconds: number): PartResult {
  let counts: TestCounts | undefined;
  const brokers: BrokerReport[] = [];
  for (const entry of readJsonLines(file)) {
    if (isKind<TestCounts>(entry, "tests")) counts = entry;
    if (isKind<BrokerReport>(entry, "broker")) brokers.push(entry);
  }
  return { name, exitCode, seconds, counts, brokers };
}

/** The values of a file of JSON lines; none if there is no such file. */
export function readJsonLines(file: string): unknown[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line): unknown => JSON.parse(line));
}

function isKind<T>(entry: unknown, kind: string): entry is T {
  return typeof entry === "object" && entry !== null && "kind" in entry && entry.kind === kind;
}
