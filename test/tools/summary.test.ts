import { expect, test } from "vitest";
import type { PartResult } from "./report.ts";
import { summarize } from "./summary.ts";

const good: PartResult = {
  name: "unit",
  exitCode: 0,
  seconds: 1,
  counts: { passed: 3, failed: [], notRun: [], notApplicable: [], unsteady: [], slowest: [] },
  brokers: [{ name: "rabbitmq", status: "running", how: "docker", version: "4.3.0" }],
};
const withoutBroker: PartResult = {
  ...good,
  name: "brokers",
  counts: {
    passed: 1,
    failed: [],
    notRun: [{ test: "a.test.ts > needs RabbitMQ", reason: "NOT RUN: no engine" }],
    notApplicable: [],
    unsteady: [],
    slowest: [],
  },
  brokers: [{ name: "rabbitmq", status: "not-run", reason: "no engine" }],
};
const lastLine = (text: string) => text.split("\n").at(-1);

test("adds up every part in one last line", () => {
  const failed = ["a", "b"].map((name) => ({ test: `c.test.ts > ${name}`, reason: "expected 1 to be 2" }));
  const { text, exitCode } = summarize(
    [
      good,
      { ...good, counts: { passed: 4, failed, notRun: [], notApplicable: [], unsteady: [], slowest: [] }, exitCode: 1 },
    ],
    false,
  );
  expect(lastLine(text)).toBe("7 passed, 2 failed");
  expect(text.match(/^\d+ passed, \d+ failed$/gm)).toHaveLength(1);
  expect(text).toContain("FAILED   c.test.ts > b: expected 1 to be 2");
  expect(text).toContain("against rabbitmq 4.3.0 (docker)");
  expect(exitCode).toBe(1);
});

test("a part that ends badly without a failed test is a failure", () => {
  const lint: PartResult = { name: "lint", exitCode: 1, seconds: 1, counts: undefined, brokers: [] };
  const crashed: PartResult = { ...good, exitCode: 137, counts: undefined };
  const { text, exitCode } = summarize([lint, crashed, { ...good, exitCode: 1 }], false);
  expect(lastLine(text)).toBe("3 passed, 3 failed");
  expect(text).toContain("FAILED   lint: ended with code 1");
  expect(exitCode).toBe(1);
});

test("a broker that is not there is said loudly, and fails the run only with CI=true", () => {
  const local = summarize([good, withoutBroker], false);
  expect(local.text).toContain("NOT RUN  rabbitmq: no engine");
  expect(local.text).toContain("NOT RUN  a.test.ts > needs RabbitMQ: no engine");
  expect(lastLine(local.text)).toBe("4 passed, 0 failed");
  expect(local.exitCode).toBe(0);
  const ci = summarize([good, withoutBroker], true);
  expect(lastLine(ci.text)).toBe("4 passed, 1 failed");
  expect(ci.exitCode).toBe(1);
});

test("with CI=true a part in which nothing ran is a failure", () => {
  const empty: PartResult = {
    ...good,
    counts: { passed: 0, failed: [], notRun: [], notApplicable: [], unsteady: [], slowest: [] },
  };
  expect(summarize([empty], true).exitCode).toBe(1);
});

test("what does not apply is listed, and is no hole", () => {
  const counts = {
    ...good.counts,
    passed: 3,
    failed: [],
    notRun: [],
    unsteady: [],
    slowest: [{ file: "a.test.ts", seconds: 12.3 }],
  };
  const notApplicable = [{ test: "a.test.ts > topics", reason: "not applicable: the emulator has none" }];
  const { text, exitCode } = summarize([{ ...good, counts: { ...counts, notApplicable } }], true);
  expect(text).toContain("not applicable: a.test.ts > topics: the emulator has none");
  expect(text).toContain("longest: a.test.ts 12 s");
  expect(text).not.toContain("NOT RUN");
  expect(exitCode).toBe(0);
});

test("what passed at the second try is named", () => {
  const unsteady = [{ test: "a.test.ts > now and then", reason: "it took too long" }];
  const counts = { passed: 1, failed: [], notRun: [], notApplicable: [], unsteady, slowest: [] };
  const { text, exitCode } = summarize([{ ...good, counts }], true);
  expect(text).toContain("UNSTEADY a.test.ts > now and then: at the first try: it took too long");
  expect(exitCode).toBe(0);
});
