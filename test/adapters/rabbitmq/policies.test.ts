import { expect, test } from "vitest";
import { blueprint } from "../../../adapters/rabbitmq/blueprint.ts";
import { judgePolicies, type Policy } from "../../../adapters/rabbitmq/policies.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import { ServerWords } from "../../../adapters/rabbitmq/server-words.ts";
import { subscriptionOf, topology, workQueue } from "../seam-values.ts";

const TOPOLOGY = topology({
  queues: [workQueue("orders"), workQueue("ranked", { ordered: true })],
  subscriptions: [subscriptionOf("placed", "billing")],
});

function judged(
  policies: readonly Partial<Policy>[],
  { version = "4.3.0", operator = false, consumerTimeoutMs = undefined as number | undefined } = {},
) {
  const server = serverVersion(version);
  const plan = blueprint(TOPOLOGY, server, { deliveryLimit: 100, queueArguments: {} });
  const lists = policies.map((policy) => ({
    name: "ours",
    pattern: ".*",
    "apply-to": "all",
    definition: {},
    ...policy,
  }));
  const found = judgePolicies(
    plan,
    operator ? { policies: [], operatorPolicies: lists } : { policies: lists, operatorPolicies: [] },
    server,
    { consumerTimeoutMs, words: new ServerWords("guest") },
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
])("%s", (_, policy, expected, options = {}) => {
  for (const operator of [false, true]) {
    const { problems, notices, codes } = judged([policy], { ...options, operator });
    expect([problems.length > 0, notices.length > 0]).toEqual([expected === "problem", expected === "notice"]);
    if (expected === "problem") expect(codes).toEqual(new Set(["conflict"]));
  }
});

test("a finding names the policy, what it sets, what that does and where, and what to do", () => {
  const { problems } = judged([{ name: "tidy", definition: { expires: 4_000 } }]);
  expect(problems).toHaveLength(1);
  expect(problems[0]).toMatch(
    /^the policy "tidy" sets expires to 4000: .*lost \(on "anybroker\.delay\..*" and \d+ more\); .*higher priority/s,
  );
  const { problems: operators } = judged([{ definition: { expires: 4_000 } }], { operator: true });
  expect(operators[0]).toMatch(/^the operator policy /);
});

test("of several policies only that of the highest priority applies to a queue", () => {
  const bad = { name: "bad", pattern: ".*", priority: 3, definition: { expires: 4_000 } };
  const guard = { name: "guard", pattern: "^(anybroker\\.|orders|ranked|placed)", definition: { "max-length": 1e9 } };
  expect(judged([bad, { ...guard, priority: 4 }]).problems).toEqual([]);
  expect(judged([bad, { ...guard, priority: 2 }]).problems).toHaveLength(1);
  // Which of equals RabbitMQ takes is not told.
  expect(judged([bad, { ...guard, priority: 3 }]).problems).toHaveLength(1);
});

test("nothing of a policy is obeyed by a terminal", () => {
  const hostile = "a\u001b[2J\r\n\u202eb\u2028";
  const { problems, notices } = judged([
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
