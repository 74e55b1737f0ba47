import { expect, test } from "vitest";
import { type AppliedPolicies, evaluatePolicies, type Policy } from "../../../adapters/rabbitmq/policies.ts";
import { Redactor } from "../../../adapters/rabbitmq/redactor.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import { topologyPlan } from "../../../adapters/rabbitmq/topology-plan.ts";
import { MessagingError } from "../../../core/errors.ts";
import { subscriptionOf, topology, workQueue } from "../seam-values.ts";

const TOPOLOGY = topology({
  queues: [workQueue("orders"), workQueue("ranked", { ordered: true })],
  subscriptions: [subscriptionOf("placed", "billing")],
});

const untold = async (): Promise<AppliedPolicies> => ({ queues: new Map(), exchanges: new Map() });

async function judged(
  policies: readonly Partial<Policy>[],
  { version = "4.3.0", operator = false, consumerTimeoutMs = undefined as number | undefined, applied = untold } = {},
) {
  const server = serverVersion(version);
  const plan = topologyPlan(TOPOLOGY, server, { deliveryLimit: 100, queueArguments: {} });
  const lists = policies.map((policy) => ({
    name: "ours",
    pattern: ".*",
    "apply-to": "all",
    definition: {},
    ...policy,
  }));
  const found = await evaluatePolicies(
    plan,
    operator ? { policies: [], operatorPolicies: lists } : { policies: lists, operatorPolicies: [] },
    server,
    { consumerTimeoutMs, redactor: new Redactor("guest") },
    applied,
  );
  return {
    problems: found.problems.map(({ message }) => message),
    notices: found.notices.map(({ message }) => message),
    codes: new Set(found.problems.map(({ code }) => code)),
  };
}

const DEAD = "^(orders\\.dlq|anybroker\\.delay\\.undelivered)$";
const LOG = "\\.quarantine$";
const WAIT = "^anybroker\\.delay\\.9$";

test.each<[string, Partial<Policy>, "problem" | "notice" | "nothing", { version?: string }?]>([
  ["expires on a wait queue", { pattern: WAIT, definition: { expires: 4_000 } }, "problem"],
  ["expires on a work queue", { pattern: "^orders$", definition: { expires: 86_400_000 } }, "problem"],
  ["expires on dead letters", { pattern: DEAD, definition: { expires: 4_000 } }, "problem"],
  ["a time to live shorter than a wait queue's", { pattern: WAIT, definition: { "message-ttl": 16_383 } }, "problem"],
  ["a time to live as long as a wait queue's", { pattern: WAIT, definition: { "message-ttl": 16_384 } }, "nothing"],
  ["a time to live of dead letters", { pattern: DEAD, definition: { "message-ttl": 86_400_000 } }, "problem"],
  ["a time to live of a work queue", { pattern: "^orders$", definition: { "message-ttl": 86_400_000 } }, "notice"],
  ["a length of dead letters", { pattern: DEAD, definition: { "max-length": 10 } }, "notice"],
  ["a length of a quarantine log", { pattern: LOG, definition: { "max-length-bytes": 10 } }, "notice"],
  ["a time to live shorter than its own", { pattern: LOG, definition: { "message-ttl": 86_399_999 } }, "notice"],
  ["a time to live as long as its own", { pattern: LOG, definition: { "message-ttl": 86_400_000 } }, "nothing"],
  ["a delivery limit of it", { pattern: LOG, definition: { "delivery-limit": 1_000 } }, "notice"],
  ["a limit that is none", { pattern: DEAD, definition: { "message-ttl": { toString: 1, valueOf: 2 } } }, "notice"],
  ["a limit that is nothing", { pattern: WAIT, definition: { "delivery-limit": null } }, "notice"],
  ["delayed returns to it", { pattern: LOG, definition: { "delayed-retry-type": "returned" } }, "problem"],
  [
    "a consumer timeout of it, from which nothing is held for long",
    { pattern: LOG, definition: { "consumer-timeout": 60_000 } },
    "nothing",
    { version: "3.13.7" },
  ],
  ["a length of a wait queue", { pattern: WAIT, definition: { "max-length": 10 } }, "notice"],
  ["a length of a work queue", { pattern: "^orders$", definition: { "max-length": 10 } }, "nothing"],
  ["an overflow that drops", { pattern: DEAD, definition: { overflow: "drop-head" } }, "problem"],
  ["an overflow that is ours", { definition: { overflow: "reject-publish" } }, "nothing"],
  [
    "another routing key for what expires",
    { pattern: WAIT, definition: { "dead-letter-routing-key": "x" } },
    "problem",
  ],
  ["a dead-letter exchange, since ours counts", { definition: { "dead-letter-exchange": "dead" } }, "nothing"],
  [
    "a delivery limit of dead letters",
    { pattern: DEAD, definition: { "delivery-limit": 20 } },
    "problem",
    { version: "4.2.0" },
  ],
  ["the same where only deaths count", { pattern: DEAD, definition: { "delivery-limit": 20 } }, "notice"],
  ["no delivery limit", { definition: { "delivery-limit": -1 } }, "nothing"],
  ["a lower delivery limit of a work queue", { pattern: "^orders$", definition: { "delivery-limit": 20 } }, "notice"],
  ["a higher one", { pattern: "^orders$", definition: { "delivery-limit": 200 } }, "nothing"],
  ["the same of an ordered one", { pattern: "^ranked$", definition: { "delivery-limit": 200 } }, "notice"],
  ["ten times as high", { pattern: "^ranked$", definition: { "delivery-limit": 1_000 } }, "nothing"],
  [
    "a shorter consumer timeout",
    { pattern: "^orders$", definition: { "consumer-timeout": 60_000 } },
    "notice",
    { version: "3.13.7" },
  ],
  ["the same where consumers ask for theirs", { definition: { "consumer-timeout": 60_000 } }, "nothing"],
  [
    "delayed returns to an ordered queue",
    { pattern: "^ranked$", definition: { "delayed-retry-type": "all" } },
    "problem",
  ],
  ["delayed returns to another queue", { pattern: "^orders$", definition: { "delayed-retry-type": "all" } }, "nothing"],
  ["an alternate exchange of a topic", { pattern: "^placed$", definition: { "alternate-exchange": "x" } }, "notice"],
  ["an alternate exchange of delays", { pattern: WAIT, definition: { "alternate-exchange": "x" } }, "problem"],
  ["one of the exchange that has one", { pattern: "deliver$", definition: { "alternate-exchange": "x" } }, "nothing"],
  [
    "what is not listed",
    { definition: { "queue-leader-locator": "balanced", "federation-upstream-set": "all" } },
    "nothing",
  ],
  ["what goes to other names", { pattern: "^other$", definition: { expires: 1 } }, "nothing"],
  ["what goes to other kinds of queues", { "apply-to": "classic_queues", definition: { expires: 1 } }, "nothing"],
  ["what goes to exchanges", { "apply-to": "exchanges", definition: { expires: 1 } }, "nothing"],
  ["what goes to quorum queues", { "apply-to": "quorum_queues", definition: { expires: 1 } }, "problem"],
  ["what RabbitMQ does not apply to quorum queues", { definition: { "ha-mode": "all", expires: 1 } }, "nothing"],
  ["a pattern that only Perl reads", { pattern: "(?|a|b)", definition: { expires: 1 } }, "notice"],
])("%s", async (_, policy, expected, options = {}) => {
  for (const operator of [false, true]) {
    const { problems, notices, codes } = await judged([policy], { ...options, operator });
    expect([problems.length > 0, notices.length > 0]).toEqual([expected === "problem", expected === "notice"]);
    if (expected === "problem") expect(codes).toEqual(new Set(["conflict"]));
  }
});

test("a finding names the policy, what it sets, what that does and where, and what to do", async () => {
  const { problems } = await judged([{ name: "tidy", definition: { expires: 4_000 } }]);
  expect(problems).toHaveLength(1);
  expect(problems[0]).toMatch(
    /^the policy "tidy" sets expires to 4000: .*lost \(on "anybroker\.delay\..*" and \d+ more\); .*higher priority/s,
  );
  const { problems: operators } = await judged([{ definition: { expires: 4_000 } }], { operator: true });
  expect(operators[0]).toMatch(/^the operator policy /);
});

test("of several policies only that of the highest priority applies to a queue", async () => {
  const bad = { name: "bad", pattern: ".*", priority: 3, definition: { expires: 4_000 } };
  const guard = { name: "guard", pattern: "^(anybroker\\.|orders|ranked|placed)", definition: { "max-length": 1e9 } };
  expect((await judged([bad, { ...guard, priority: 4 }])).problems).toEqual([]);
  expect((await judged([bad, { ...guard, priority: 2 }])).problems).toHaveLength(1);
  // Which of equals RabbitMQ takes is not told.
  expect((await judged([bad, { ...guard, priority: 3 }])).problems).toHaveLength(1);
});

// Takes years for a name of 30 letters where it is run by going back.
const ENDLESS = "^(([a-z.])+)+[A-Z]([a-z])+$";

test("a pattern that may run for ever is not run, which is told", async () => {
  const { problems, notices } = await judged([{ name: "evil", pattern: ENDLESS, definition: { expires: 1 } }]);
  expect(problems).toEqual([]);
  expect(notices).toEqual([
    expect.stringMatching(/^it is not known whether these policies apply to ".*" and \d+ more: "evil"/),
  ]);
});

test("what such a pattern applies to is told by RabbitMQ, where the queue stands", async () => {
  const evil = { name: "evil", pattern: ENDLESS, priority: 1, definition: { expires: 1 } };
  const mild = { name: "mild", pattern: ".*", definition: { "dead-letter-exchange": "dead" } };
  const applied = async (): Promise<AppliedPolicies> => {
    const names = (await judgedNames()).map((name) => [name, name === "orders" ? "evil" : "mild"] as const);
    const all = new Map(names.map(([name, policy]) => [name, { policy, operatorPolicy: undefined }]));
    return { queues: all, exchanges: all };
  };
  const { problems, notices } = await judged([evil, mild], { applied });
  expect(problems).toEqual([expect.stringMatching(/^the policy "evil" sets expires to 1: .* \(on "orders"\);/)]);
  expect(notices).toEqual([]);
});

async function judgedNames(): Promise<readonly string[]> {
  const { queues, exchanges } = topologyPlan(TOPOLOGY, serverVersion("4.3.0"), {
    deliveryLimit: 100,
    queueArguments: {},
  });
  return [...queues, ...exchanges].map(({ name }) => name);
}

test("where RabbitMQ does not answer that question, it is told why", async () => {
  const applied = () => Promise.reject(new MessagingError("unauthorized", "it may not be asked"));
  const { problems, notices } = await judged([{ pattern: ENDLESS, definition: { expires: 1 } }], { applied });
  expect(problems).toEqual([]);
  expect(notices).toEqual(["it may not be asked", expect.stringContaining("is not known whether")]);
});

test("of very many policies those of the highest priorities are looked at, and the rest is told", async () => {
  const many = Array.from({ length: 130_000 }, (_, n) => ({ name: `p${n}`, definition: { "max-length": n } }));
  const { problems, notices } = await judged([...many, { priority: 1, definition: { expires: 1 } }]);
  expect(problems).toHaveLength(1);
  expect(notices).toEqual([expect.stringMatching(/^RabbitMQ has 129001 more policies/)]);
  const alike = await judged(many);
  expect(alike.notices.length).toBeLessThan(110);
  expect(alike.notices).toContainEqual(expect.stringMatching(/have \d+ more such effects/));
});

test("an error shows the beginning of what is long", async () => {
  const { problems } = await judged([{ name: "n".repeat(1e6), definition: { expires: "x".repeat(1e6) } }]);
  expect(problems[0]?.length).toBeLessThan(2_000);
});

test("nothing of a policy is obeyed by a terminal", async () => {
  const hostile = "a\u001b[2J\r\n\u202eb\u2028";
  const { problems, notices } = await judged([
    { name: hostile, pattern: DEAD, definition: { expires: hostile } },
    { name: hostile, pattern: "(", definition: {} },
  ]);
  expect(problems).toHaveLength(1);
  expect(notices).toHaveLength(1);
  for (const text of [...problems, ...notices]) {
    expect(text).toContain('"a?[2J???b?"');
    expect(text).not.toMatch(/[\p{C}\u2028]/u);
  }
});
