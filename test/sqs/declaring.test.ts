import { describe, expect, test } from "vitest";
import type { SqsOptions } from "../../adapters/sqs/index.ts";
import { allows } from "../../adapters/sqs/topology/queue-policy.ts";
import type { SubscriptionDeclaration, Topology } from "../../core/adapter.ts";
import type { MessagingError } from "../../core/errors.ts";
import { opened, send } from "./opened.ts";
import { outgoing } from "./outgoing.ts";
import { queueArn, ScriptedAccount, topicArn } from "./scripted-account.ts";

const ORDERS = { kind: "queue", name: "orders" } as const;
const BILLING = { kind: "subscription", topic: "placed", name: "billing" } as const;

/** The queue `orders`, and the subscription `billing` of the topic `placed`. */
function wanted(given: Partial<SubscriptionDeclaration> = {}): Omit<Topology, "mode"> {
  const { ordered = false } = given;
  return {
    queues: [{ address: ORDERS, ordered, priorities: 1 }],
    topics: [{ address: { kind: "topic", name: "placed" }, ordered }],
    subscriptions: [{ address: BILLING, ordered, from: "now", filter: "geo.us", ...given }],
  };
}

/** An account with an adapter onto it. */
async function account(options: SqsOptions = {}) {
  const { aws, adapter } = await opened(options);
  const standing = new ScriptedAccount(aws);
  const declare = (mode: Topology["mode"], topology = wanted()) => adapter.declare({ ...topology, mode });
  /** Everything that was asked to be changed since it was asked for last. */
  let seen = 0;
  const changes = () => {
    const all = aws.requests.map(({ action }) => action).filter((action) => /^(Create|Set|Subscribe)/.test(action));
    const fresh = all.slice(seen).sort();
    seen = all.length;
    return fresh;
  };
  return { aws, adapter, standing, declare, changes };
}

/** An account on which everything was made. */
async function made(topology = wanted(), options: SqsOptions = {}) {
  const opened = await account(options);
  expect(await opened.declare("create", topology)).toEqual([]);
  opened.changes();
  const subscription = opened.standing.subscriptions[0]?.attributes ?? {};
  return { ...opened, subscription };
}

const codes = (problems: readonly MessagingError[]) => problems.map(({ code }) => code);
const said = (problems: readonly MessagingError[]) => problems.map(({ message }) => message).join("\n");

describe("create", () => {
  test("makes all that is missing, with a redrive policy and a queue policy that are right from the first moment on", async () => {
    const { standing } = await made(wanted(), {
      queueAttributes: { KmsMasterKeyId: "alias/orders" },
      topicAttributes: { DisplayName: "placed" },
      retentionSeconds: 3_600,
    });
    const apart = ["", "_-dlq", "_-suspects"];
    const names = ["orders", "placed_-billing"].flatMap((name) => apart.map((suffix) => name + suffix));
    expect([...standing.queues.keys()].sort()).toEqual(names.sort());
    for (const queue of standing.queues.values()) {
      const attributes = {
        KmsMasterKeyId: "alias/orders",
        MessageRetentionPeriod: "3600",
        MaximumMessageSize: "1048576",
      };
      expect(queue).toMatchObject(attributes);
    }
    const { RedrivePolicy = "", Policy } = standing.queues.get("placed_-billing") ?? {};
    expect(JSON.parse(RedrivePolicy)).toEqual({
      deadLetterTargetArn: queueArn("placed_-billing_-dlq"),
      maxReceiveCount: 100,
    });
    expect(JSON.parse(Policy ?? "")).toMatchObject({
      Statement: [
        {
          Effect: "Allow",
          Principal: { Service: "sns.amazonaws.com" },
          Action: "sqs:SendMessage",
          Resource: queueArn("placed_-billing"),
          Condition: { ArnEquals: { "aws:SourceArn": topicArn("placed") } },
        },
      ],
    });
    expect(standing.queues.get("orders")).not.toHaveProperty("Policy");
    expect([...standing.topics]).toEqual([["placed", { DisplayName: "placed" }]]);
    expect(standing.subscriptions).toMatchObject([
      {
        topic: "placed",
        queue: "placed_-billing",
        attributes: {
          RawMessageDelivery: "true",
          FilterPolicy: '{"anybroker-routing-key":["geo.us"]}',
          FilterPolicyScope: "MessageAttributes",
        },
      },
    ]);
  });

  test.for([false, true])("changes nothing a second time, and verify finds nothing (ordered: %s)", async (ordered) => {
    const topology = wanted({ ordered });
    const { declare, changes, standing } = await made(topology);
    const names = [...standing.queues.keys(), ...standing.topics.keys()];
    expect(names.every((name) => name.endsWith(".fifo") === ordered)).toBe(true);
    // An ordered queue sets nothing apart.
    expect(names.some((name) => name.includes("suspects"))).toBe(!ordered);
    expect(await declare("create", topology)).toEqual([]);
    expect(await declare("verify", topology)).toEqual([]);
    expect(changes()).toEqual([]);
  });

  test("repairs a subscription that is gone, has no raw delivery, or filters otherwise", async () => {
    const { declare, changes, standing, subscription } = await made();
    const right = { ...subscription };
    Object.assign(subscription, { RawMessageDelivery: "false", FilterPolicy: '{"anybroker-routing-key":["geo.de"]}' });
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual(["SetSubscriptionAttributes", "SetSubscriptionAttributes"]);
    expect(subscription).toEqual(right);
    standing.subscriptions.length = 0;
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual(["Subscribe"]);
    expect(standing.subscriptions).toMatchObject([{ attributes: right }]);
  });

  test("a changed filter lets everything through before it lets through less", async () => {
    const { aws, declare, subscription } = await made();
    Object.assign(subscription, { FilterPolicyScope: "MessageBody", FilterPolicy: '{"total":[{"numeric":[">",5]}]}' });
    expect(await declare("create", wanted({ filter: "geo.*" }))).toEqual([]);
    const steps = aws
      .inputs("SetSubscriptionAttributes")
      .map(({ AttributeName, AttributeValue }) => [AttributeName, AttributeValue]);
    expect(steps).toEqual([
      ["FilterPolicy", "{}"],
      ["FilterPolicyScope", "MessageAttributes"],
      ["FilterPolicy", '{"anybroker-routing-key":[{"prefix":"geo."}]}'],
    ]);
    expect(await declare("create", wanted({ filter: "#" }))).toEqual([]);
    expect(subscription.FilterPolicy).toBe("{}");
  });

  test("a filter policy that SNS writes in another way is left alone", async () => {
    const { declare, changes, subscription } = await made();
    subscription.FilterPolicy = '{ "anybroker-routing-key" : [ "geo.us" ] }';
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual([]);
  });

  test("subscribes beside a subscription that nobody confirmed, and after many others", async () => {
    const { declare, changes, standing } = await made();
    standing.subscriptions.length = 0;
    for (const queue of ["other", "another", "third"]) standing.subscribe("placed", queue, {});
    standing.subscribe("placed", "placed_-billing", {}, false);
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual(["Subscribe"]);
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual([]);
  });

  test("gives a queue of others that has neither a redrive nor a queue policy what is missing, and no more", async () => {
    const { declare, standing, changes } = await account();
    standing.queues.set("orders", { VisibilityTimeout: "7" });
    standing.queues.set("placed_-billing", {});
    expect(await declare("create")).toEqual([]);
    expect(standing.queues.get("orders")).toEqual({
      VisibilityTimeout: "7",
      RedrivePolicy: JSON.stringify({ deadLetterTargetArn: queueArn("orders_-dlq"), maxReceiveCount: 100 }),
    });
    expect(standing.queues.get("placed_-billing")?.Policy).toContain(topicArn("placed"));
    expect(changes().filter((action) => action === "SetQueueAttributes")).toHaveLength(3);
  });

  test("refuses what others have set otherwise, names all of it, and changes none of it", async () => {
    const { declare, standing, changes } = await made();
    const others = {
      RedrivePolicy: JSON.stringify({ deadLetterTargetArn: queueArn("elsewhere"), maxReceiveCount: 5 }),
    };
    const policy = JSON.stringify({
      Statement: { Effect: "Allow", Condition: { ArnEquals: { "aws:SourceArn": topicArn("x") } } },
    });
    standing.queues.set("orders", { ...others });
    standing.queues.set("placed_-billing", { ...others, Policy: policy });
    const problems = await declare("create");
    expect(codes(problems)).toEqual(["conflict", "conflict", "conflict"]);
    expect(said(problems)).toMatch(/queue "orders" redrives to another queue; set its RedrivePolicy to .*orders_-dlq/);
    expect(said(problems)).toMatch(/"placed" redrives to another queue; set its RedrivePolicy to .*billing_-dlq/);
    expect(said(problems)).toMatch(/a policy that does not name the topic; allow .*:placed to send messages to it/);
    expect(changes()).toEqual([]);
  });

  test.for([
    [true, "a standard queue", "a standard topic"],
    [false, "a FIFO queue", "a FIFO topic"],
  ] as const)(
    "refuses what stands as the other kind, and makes nothing (asked for order: %s)",
    async ([ordered, queue, topic]) => {
      const { declare, changes } = await made(wanted({ ordered: !ordered }));
      for (const mode of ["create", "verify"] as const) {
        const problems = await declare(mode, wanted({ ordered }));
        // Suspects there are only without order.
        expect(problems.every(({ code, message }) => code === "conflict" || message.includes("suspects"))).toBe(true);
        expect(said(problems)).toContain(`queue "orders" stands on SQS as ${queue}`);
        expect(said(problems)).toContain(`topic "placed" stands on SNS as ${topic}`);
        expect(said(problems)).toContain(`dead letters of queue "orders" stands on SQS as ${queue}`);
      }
      expect(changes()).toEqual([]);
    },
  );

  test("a queue that another process makes at the same moment is taken as it is", async () => {
    const { aws, declare, standing } = await account();
    aws.on("CreateQueue", ({ QueueName }) => {
      standing.queues.set(String(QueueName), {});
      return { error: "QueueNameExists" };
    });
    expect(await declare("create")).toEqual([]);
    expect(standing.queues.get("orders")?.RedrivePolicy).toContain("orders_-dlq");
  });

  test("a right that is missing is named, with whatever else is wrong", async () => {
    const { aws, declare } = await account();
    aws.on("CreateTopic", () => ({ error: "AuthorizationError", status: 403 }));
    aws.on("CreateQueue", () => ({ error: "AccessDenied", status: 403 }));
    const problems = await declare("create");
    expect(new Set(codes(problems))).toEqual(new Set(["unauthorized", "not-found"]));
    for (const name of ['declaring topic "placed"', 'declaring dead letters of queue "orders"']) {
      expect(said(problems)).toContain(name);
    }
  });
});

describe("verify", () => {
  test("names everything that is missing, each once, and makes none of it", async () => {
    const { declare, changes, standing } = await account();
    const problems = await declare("verify");
    expect(new Set(codes(problems))).toEqual(new Set(["not-found"]));
    const names = ['queue "orders"', 'topic "placed"', "subscription"];
    for (const name of names) expect(said(problems)).toContain(name);
    for (const name of [
      "orders",
      "orders_-dlq",
      "orders_-suspects",
      "placed_-billing",
      "placed_-billing_-dlq",
      "placed_-billing_-suspects",
    ]) {
      expect(problems.filter(({ message }) => message.includes(`on SQS as "${name}"`))).toHaveLength(1);
    }
    expect(problems).toHaveLength(7);
    expect(changes()).toEqual([]);
    expect(standing.queues.size + standing.topics.size).toBe(0);
  });

  test.for(["orders", "orders_-dlq", "orders_-suspects", "placed_-billing", "placed_-billing_-dlq"])(
    "names the one queue that is missing: %s",
    async (name) => {
      const { declare, standing, changes } = await made();
      standing.queues.delete(name);
      const problems = await declare("verify");
      expect(codes(problems)).toEqual(["not-found"]);
      expect(said(problems)).toContain(`"${name}"`);
      expect(changes()).toEqual([]);
    },
  );

  test("names a topic that is missing", async () => {
    const { declare, standing } = await made();
    standing.topics.clear();
    const problems = await declare("verify");
    expect(codes(problems)).toEqual(["not-found"]);
    expect(said(problems)).toContain('topic "placed" does not exist');
  });

  test.for([true, false])("names a subscription that is missing, or that nobody confirmed", async (gone) => {
    const { declare, standing } = await made();
    standing.subscriptions.length = 0;
    if (!gone) standing.subscribe("placed", "placed_-billing", {}, false);
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
    ["a redrive policy that is none", { RedrivePolicy: "{" }, "redrives to another"],
    ["no redrive policy", { RedrivePolicy: undefined }, "has no redrive policy"],
    ["a queue policy that does not name the topic", { Policy: '{"Statement":[]}' }, "does not name the topic"],
    ["no queue policy", { Policy: undefined }, "the queue has no policy"],
  ] as const)("names %s", async ([, attributes, problem]) => {
    const { declare, changes, standing } = await made();
    Object.assign(standing.queues.get("placed_-billing") ?? {}, attributes);
    const problems = await declare("verify");
    expect(codes(problems)).toEqual(["conflict"]);
    expect(said(problems)).toContain(problem);
    expect(changes()).toEqual([]);
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
  const { aws, declare, standing } = await account();
  const topics = ["a", "b", "c"].map((name) => ({ address: { kind: "topic", name } as const, ordered: false }));
  for (const { address } of topics) standing.topics.set(address.name, {});
  expect(await declare("verify", { queues: [], topics, subscriptions: [] })).toEqual([]);
  // A page has one topic.
  expect(aws.inputs("ListTopics")).toHaveLength(3);
});

describe("a queue policy", () => {
  const statement = (given: object) => JSON.stringify({ Statement: [{ Effect: "Allow", ...given }] });
  const source = (arn: string, operator = "ArnLike") => ({ Condition: { [operator]: { "aws:SourceArn": arn } } });
  const topic = topicArn("a_-b");

  test.for([
    ["exactly", statement(source(topic, "ArnEquals"))],
    ["among others", statement({ Condition: { StringEquals: { "aws:SourceArn": [topicArn("x"), topic] } } })],
    ["by a pattern", statement(source("arn:aws:sns:*:000000000000:a_-?"))],
    ["in a statement that is no list", JSON.stringify({ Statement: { Effect: "Allow", ...source(topic) } })],
  ])("allows a topic that it names %s", ([, policy]) => {
    expect(allows(policy ?? "", topic)).toBe(true);
  });

  test.for([
    ["another topic", statement(source(topicArn("a_-bc")))],
    ["a pattern for others", statement(source("arn:aws:sns:*:000000000000:c*"))],
    ["a pattern over the parts of an ARN", statement(source("arn:*"))],
    ["a refusal", statement({ ...source(topic), Effect: "Deny" })],
    ["the topic as a resource", statement({ Resource: topic })],
    ["nothing", "{}"],
    ["what is no JSON", topic],
  ])("does not by %s", ([, policy]) => {
    expect(allows(policy ?? "", topic)).toBe(false);
  });
});
