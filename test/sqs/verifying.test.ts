import { describe, expect, test } from "vitest";
import { SET_IT } from "../../core/errors.ts";
import { account, codes, made, said, wanted } from "./declared.ts";
import { opened, send } from "./opened.ts";
import { outgoing } from "./outgoing.ts";

describe("verify", () => {
  test("names everything that is missing, each once, and makes none of it", async () => {
    const { declare, changes, existing } = await account();
    const problems = await declare("verify");
    expect(new Set(codes(problems))).toEqual(new Set(["not-found"]));
    const names = ['queue "orders"', 'topic "placed"', "subscription"];
    for (const name of names) expect(said(problems)).toContain(name);
    for (const name of [
      "orders",
      "orders_-dlq",
      "orders_-quarantine",
      "placed_-_-billing",
      "placed_-_-billing_-dlq",
      "placed_-_-billing_-quarantine",
    ]) {
      expect(problems.filter(({ message }) => message.includes(`on SQS as "${name}"`))).toHaveLength(1);
    }
    expect(problems).toHaveLength(7);
    expect(said(problems)).toMatch(/dead letters of queue "orders" do not exist on SQS/);
    expect(said(problems)).toMatch(/^queue "orders" does not exist on SQS/m);
    expect(changes()).toEqual([]);
    expect(existing.queues.size + existing.topics.size).toBe(0);
  });

  test.for([
    "orders",
    "orders_-dlq",
    "orders_-quarantine",
    "placed_-_-billing",
    "placed_-_-billing_-dlq",
    "placed_-_-billing_-quarantine",
    "orders.fifo",
    "orders_-quarantine beside orders.fifo",
  ])("names the one queue that is missing: %s", async (missing) => {
    const [name = ""] = missing.split(" ");
    const topology = wanted({ ordered: missing.endsWith(".fifo") });
    const { declare, existing, changes } = await made(topology);
    existing.queues.delete(name);
    const problems = await declare("verify", topology);
    expect(codes(problems)).toEqual(["not-found"]);
    expect(said(problems)).toContain(`"${name}"`);
    expect(changes()).toEqual([]);
  });

  test("names a topic that is missing", async () => {
    const { declare, existing } = await made();
    existing.topics.clear();
    const problems = await declare("verify");
    expect(codes(problems)).toEqual(["not-found"]);
    expect(said(problems)).toContain('topic "placed" does not exist');
  });

  test.for([true, false])("names a subscription that is missing, or that nobody confirmed", async (gone) => {
    const { declare, existing } = await made();
    existing.subscriptions.length = 0;
    if (!gone) existing.subscribe("placed", "placed_-_-billing", {}, false);
    const problems = await declare("verify");
    expect(codes(problems)).toEqual(["not-found"]);
    expect(said(problems)).toMatch(/subscription "billing".* its queue is not subscribed to the topic/);
  });

  test.for([
    ["another filter policy", { FilterPolicy: '{"anybroker-routing-key":["geo.de"]}' }, "has another filter policy"],
    ["no filter policy", { FilterPolicy: "{}" }, "has another filter policy"],
    ["a filter over bodies", { FilterPolicyScope: "MessageBody" }, "filters by bodies"],
    ["no raw delivery", { RawMessageDelivery: "false" }, "has no raw delivery"],
  ] as const)("names %s", async ([, attributes, problem]) => {
    const { declare, changes, subscription } = await made();
    Object.assign(subscription, attributes);
    const problems = await declare("verify");
    expect(codes(problems)).toEqual(["conflict"]);
    expect(said(problems)).toContain(`"placed" ${problem}`);
    expect(changes()).toEqual([]);
    // It names create if, and only if, create sets it.
    const isSet = (await declare("create")).length === 0;
    expect(said(problems).includes(SET_IT)).toBe(isSet);
  });

  test("names a filter policy where everything was asked for", async () => {
    const { declare } = await made();
    expect(codes(await declare("verify", wanted({ filter: "#" })))).toEqual(["conflict"]);
  });

  test.for([
    [
      "a redrive policy to another queue",
      { RedrivePolicy: '{"deadLetterTargetArn":"arn:other"}' },
      "redrives to another",
    ],
    ["a redrive policy that is none", { RedrivePolicy: "{" }, "has a redrive policy without a queue"],
    ["a redrive policy that is null", { RedrivePolicy: "null" }, "has a redrive policy without a queue"],
    ["no redrive policy", { RedrivePolicy: undefined }, "has no redrive policy"],
    ["a queue policy that does not name the topic", { Policy: '{"Statement":[]}' }, "does not name the topic"],
    ["no queue policy", { Policy: undefined }, "the queue has no policy"],
  ] as const)("names %s", async ([, attributes, problem]) => {
    const { declare, changes, existing } = await made();
    Object.assign(existing.queues.get("placed_-_-billing") ?? {}, attributes);
    const problems = await declare("verify");
    expect(codes(problems)).toEqual(["conflict"]);
    expect(said(problems)).toContain(problem);
    expect(changes()).toEqual([]);
    // It names create if, and only if, create sets it.
    const isSet = (await declare("create")).length === 0;
    expect(said(problems).includes(SET_IT)).toBe(isSet);
  });

  test("needs no right to look for queues of the other kind", async () => {
    const { aws, declare } = await account();
    aws.on("GetQueueUrl", ({ QueueName }) =>
      String(QueueName).endsWith(".fifo") ? { error: "AccessDenied", status: 403 } : { error: "QueueDoesNotExist" },
    );
    expect(new Set(codes(await declare("verify")))).toEqual(new Set(["not-found"]));
  });

  test("none looks at nothing", async () => {
    const { aws, declare } = await account();
    const before = aws.requests.length;
    expect(await declare("none")).toEqual([]);
    expect(aws.requests).toHaveLength(before);
  });
});

test("a sender needs no right to more than its own queue", async () => {
  const { aws, adapter } = await opened();
  aws.on("GetQueueUrl", ({ QueueName }) =>
    QueueName === "orders" ? { output: { QueueUrl: `${aws.url}/0/orders` } } : { error: "AccessDenied", status: 403 },
  );
  expect(await send(adapter, [outgoing()])).toEqual([{ status: "confirmed" }]);
  const [refused] = await send(adapter, [outgoing()], { kind: "queue", name: "invoices" });
  expect(refused).toMatchObject({ status: "rejected", error: { code: "unauthorized" } });
});

test("topics are listed once for all who look for one at the same time", async () => {
  const { aws, declare, existing } = await account();
  const topics = ["a", "b", "c"].map((name) => ({ address: { kind: "topic", name } as const, ordered: false }));
  for (const { address } of topics) existing.topics.set(address.name, {});
  expect(await declare("verify", { queues: [], topics, subscriptions: [] })).toEqual([]);
  // A page has one topic.
  expect(aws.inputs("ListTopics")).toHaveLength(3);
});
