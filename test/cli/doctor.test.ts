import { type Adapter, queue, subscription, topic } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { expect, test } from "vitest";
import { delegate } from "../../conformance/decorators/delegate.ts";
import { command, errorOf } from "./commands.ts";
import { shop } from "./shop.ts";

test("doctor tells what is there, what each guarantee is, and what it cannot prove", async () => {
  const { configuration, stock } = shop();
  await stock([{ id: "o-1", total: 1 }]);
  const { code, json } = await command(["doctor", "--json"], { configuration });
  expect(code).toBe(0);
  expect(json).toMatchObject({
    adapter: "memory",
    version: null,
    plan: null,
    problems: [],
    capabilities: { order: { support: "native" }, durable: { support: "unsupported" } },
    limits: { priorities: 32, maxHeaders: 128 },
  });
  expect(json.destinations).toContainEqual({
    destination: "queue:orders",
    physical: { main: "queue orders", deadLetters: "queue orders.dlq", quarantine: "queue orders.quarantine" },
    asks: [],
    state: "same",
    messages: 0,
    deadLetters: 1,
    deadLettersHeld: 0,
  });
  expect(json.destinations).toContainEqual(
    expect.objectContaining({ destination: "topic:order.placed", asks: [{ capability: "fanOut", support: "native" }] }),
  );
  expect(json.checks).toContainEqual(expect.objectContaining({ check: "connect", status: "ok" }));
  expect(json.checks).toContainEqual(expect.objectContaining({ check: "write and consume", status: "unknown" }));
  const { stdout } = await command(["doctor"], { configuration });
  expect(stdout).toMatch(/^durable +unsupported +messages end/m);
  expect(stdout).toMatch(/^queue:orders +queue orders +0 +1$/m);
});

test("a login without the beginning of its URL is not printed back", async () => {
  const { stderr, code } = await command(["doctor", "ann:pass-word@host"], { configuration: {} });
  expect(code).not.toBe(0);
  expect(stderr).toContain("ann:***@host");
  expect(stderr).not.toContain("pass-word");
});

test("doctor without a configuration looks at what it finds, and says what may have been meant", async () => {
  const { configuration, stock } = shop();
  await stock([{ id: "o-1", total: 1 }]);
  const { broker } = configuration as { readonly broker: () => Adapter };
  const { code, json } = await command(["doctor", "--json"], { configuration: { broker } });
  expect(code).toBe(0);
  expect(json.destinations).toMatchObject([
    { destination: "topic:order.placed", state: "undeclared" },
    { destination: "topic:order.placed/billing", state: "undeclared", messages: 0 },
    { destination: "queue:orders", state: "undeclared", messages: 0, deadLetters: 1 },
    { destination: "queue:rejected" },
  ]);
  expect(json.checks).toContainEqual({
    check: "find destinations",
    status: "ok",
    message: "found 4, without a configuration",
  });
  const one = await command(["doctor", "orders", "--json"], { configuration: { broker } });
  expect([one.code, one.json.destinations]).toMatchObject([0, [{ destination: "queue:orders", deadLetters: 1 }]]);
  const typo = await command(["doctor", "ordres"], { configuration: { broker } });
  expect([typo.code, typo.stdout]).toEqual([78, expect.stringContaining('did you mean "orders"?')]);
  const silent = () => {
    const { list: _, ...rest } = delegate(broker());
    return rest;
  };
  const blind = await command(["doctor", "--json"], { configuration: { broker: silent } });
  expect(blind.code).toBe(78);
  expect(blind.json.checks).toContainEqual(
    expect.objectContaining({ check: "find destinations", status: "failed", message: expect.stringContaining("name") }),
  );
  const nothing = await command(["doctor", "--json", "--broker", "memory:"]);
  expect(nothing.json.checks).toContainEqual(
    expect.objectContaining({
      check: "find destinations",
      status: "ok",
      message: expect.stringContaining("there are no destinations"),
    }),
  );
});

test("doctor ends with what is amiss", async () => {
  const missing = shop();
  const nothing = await command(["doctor", "--json"], { configuration: missing.configuration });
  expect(nothing.code).toBe(78);
  expect(nothing.json.destinations).toContainEqual(
    expect.objectContaining({ destination: "queue:orders", state: "missing", messages: null }),
  );
  const space = memorySpace();
  const configuration = { broker: () => memory({ space }), destinations: [queue("safe", { durable: true })] };
  const refused = await command(["doctor", "--json"], { configuration });
  expect(refused.code).toBe(69);
  expect(refused.json.problems).toMatchObject([{ code: "unsupported", message: expect.stringContaining("durable") }]);
  const away = await command(["doctor", "--broker", "amqp://shop:secret-word@127.0.0.1:1", "--json"]);
  expect(away.code).toBe(69);
  expect(errorOf(away)).toMatchObject({ problems: [{ code: "unreachable" }] });
  expect(away.stderr + away.stdout).not.toContain("secret-word");
});

test.for([
  ["3.9.29", "failed", 78],
  ["3.10.0", "ok", 0],
  ["4.3.0", "ok", 0],
] as const)("doctor says whether RabbitMQ %s is new enough", async ([version, status, exit]) => {
  const connections = { publishing: { connection: { serverProperties: { version } } } };
  const configuration = { broker: () => Object.assign(delegate(memory()), { name: "rabbitmq", connections }) };
  const { code, json } = await command(["doctor", "--json"], { configuration });
  expect(json).toMatchObject({ adapter: "rabbitmq", version });
  expect(json.checks).toContainEqual(
    expect.objectContaining({ check: "version", status, message: expect.stringContaining(version) }),
  );
  expect(code).toBe(exit);
});

test("doctor --plan says offline what a move would lose, and what the other broker refuses", async () => {
  const geo = topic("geo", { ordered: true });
  const configuration = {
    broker: "kafka://old.invalid",
    brokers: { fresh: "sqs://eu-central-1" },
    destinations: [
      queue("jobs", { priorities: 3 }),
      geo,
      subscription(geo, "us", { filter: "geo.us.#", from: "earliest" }),
    ],
  };
  const line = ["doctor", "--plan", "--to", "fresh", "--json"];
  const { code, json } = await command(line, { configuration });
  expect(code).toBe(69);
  const { plan } = json as { readonly plan: Readonly<Record<string, unknown>> };
  expect(json).toMatchObject({ broker: "kafka://old.invalid", adapter: "kafka", checks: [] });
  expect(plan).toMatchObject({ to: "sqs://eu-central-1", adapter: "sqs" });
  expect(plan.lost).toEqual(expect.arrayContaining(["rewind", "priority"]));
  expect(plan.differences).toContainEqual(
    expect.objectContaining({ name: "rewind", kind: "lost", askedBy: [expect.stringContaining('"us"')] }),
  );
  const refused = plan.refused as readonly { readonly message: string }[];
  expect(refused.map(({ message }) => message).join()).toMatch(/priority.*rewind/s);
  const { stdout } = await command(line.slice(0, -1), { configuration });
  expect(stdout).toContain("the target broker refuses:");
  const alike = await command(["doctor", "queue:plain", "--plan", "--to", "memory:", "--broker", "memory:", "--json"]);
  expect(alike.code).toBe(0);
  expect(alike.json.plan).toMatchObject({ differences: [], lost: [], refused: [] });
  expect((await command(["doctor", "--plan"], { configuration })).stderr).toContain("--to");
  expect((await command(["doctor", "--to", "fresh"], { configuration })).code).toBe(64);
});
