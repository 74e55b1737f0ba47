import { describe, expect, test } from "vitest";
import { account, codes, made, said, wanted } from "./declared.ts";
import { queueArn, topicArn } from "./scripted-account.ts";

describe("create", () => {
  test("makes all that is missing, with a redrive policy and a queue policy that are right from the first moment on", async () => {
    const { existing } = await made(wanted(), {
      queueAttributes: { KmsMasterKeyId: "alias/orders" },
      topicAttributes: { DisplayName: "placed" },
      retentionSeconds: 3_600,
    });
    const apart = ["", "_-dlq", "_-quarantine"];
    const names = ["orders", "placed_-_-billing"].flatMap((name) => apart.map((suffix) => name + suffix));
    expect([...existing.queues.keys()].sort()).toEqual(names.sort());
    for (const [name, queue] of existing.queues) {
      const log = name.endsWith("_-quarantine");
      expect(queue).toMatchObject({
        KmsMasterKeyId: "alias/orders",
        MessageRetentionPeriod: log ? "86400" : "3600",
        MaximumMessageSize: "1048576",
      });
      expect("RedrivePolicy" in queue).toBe(!log && !name.endsWith("_-dlq"));
    }
    const { RedrivePolicy = "", Policy } = existing.queues.get("placed_-_-billing") ?? {};
    expect(JSON.parse(RedrivePolicy)).toEqual({
      deadLetterTargetArn: queueArn("placed_-_-billing_-dlq"),
      maxReceiveCount: 100,
    });
    expect(JSON.parse(Policy ?? "")).toMatchObject({
      Statement: [
        {
          Effect: "Allow",
          Principal: { Service: "sns.amazonaws.com" },
          Action: "sqs:SendMessage",
          Resource: queueArn("placed_-_-billing"),
          Condition: { ArnEquals: { "aws:SourceArn": topicArn("placed") } },
        },
      ],
    });
    expect(existing.queues.get("orders")).not.toHaveProperty("Policy");
    expect([...existing.topics]).toEqual([["placed", { DisplayName: "placed" }]]);
    expect(existing.subscriptions).toMatchObject([
      {
        topic: "placed",
        queue: "placed_-_-billing",
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
    const { declare, changes, existing } = await made(topology);
    const names = [...existing.queues.keys(), ...existing.topics.keys()];
    const logs = names.filter((name) => name.includes("quarantine"));
    expect(logs).toEqual(["orders_-quarantine", "placed_-_-billing_-quarantine"]);
    expect(names.every((name) => logs.includes(name) || name.endsWith(".fifo") === ordered)).toBe(true);
    expect(await declare("create", topology)).toEqual([]);
    expect(await declare("verify", topology)).toEqual([]);
    expect(changes()).toEqual([]);
  });

  test("attributes that only FIFO queues have are given to these alone", async () => {
    const fifoOnly = { DeduplicationScope: "messageGroup", FifoThroughputLimit: "perMessageGroupId" };
    const queueAttributes = { ...fifoOnly, KmsMasterKeyId: "alias/orders" };
    const { existing } = await made(wanted({ ordered: true }), { queueAttributes });
    for (const name of ["orders.fifo", "orders_-dlq.fifo"]) {
      expect(existing.queues.get(name)).toMatchObject({ ...queueAttributes, FifoQueue: "true" });
    }
    const log = existing.queues.get("orders_-quarantine") ?? {};
    expect(log).toMatchObject({ KmsMasterKeyId: "alias/orders" });
    for (const name of ["FifoQueue", ...Object.keys(fifoOnly)]) expect(log).not.toHaveProperty(name);
  });

  test("repairs a subscription that is gone, has no raw delivery, or filters otherwise", async () => {
    const { declare, changes, existing, subscription } = await made();
    const right = { ...subscription };
    Object.assign(subscription, { RawMessageDelivery: "false", FilterPolicy: '{"anybroker-routing-key":["geo.de"]}' });
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual(["SetSubscriptionAttributes", "SetSubscriptionAttributes"]);
    expect(subscription).toEqual(right);
    existing.subscriptions.length = 0;
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual(["Subscribe"]);
    expect(existing.subscriptions).toMatchObject([{ attributes: right }]);
  });

  test("a changed filter lets everything through before it lets through less", async () => {
    const { aws, errors, declare, subscription } = await made();
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
    // What waits is judged by what SNS cannot see of the new one.
    expect(said(errors)).toMatch(/^subscription "billing" of topic "placed" had another filter policy .* are deleted/);
    expect(await declare("create", wanted({ filter: "#" }))).toEqual([]);
    expect(subscription.FilterPolicy).toBe("{}");
    expect(await declare("create", wanted({ filter: "geo.#" }))).toEqual([]);
    expect(errors).toHaveLength(1);
  });

  test("a filter policy that SNS writes in another way is left alone", async () => {
    const { declare, changes, subscription } = await made();
    subscription.FilterPolicy = '{ "anybroker-routing-key" : [ "geo.us" ] }';
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual([]);
  });

  test("subscribes beside a subscription that nobody confirmed, and after many others", async () => {
    const { declare, changes, existing } = await made();
    existing.subscriptions.length = 0;
    for (const queue of ["other", "another", "third"]) existing.subscribe("placed", queue, {});
    existing.subscribe("placed", "placed_-_-billing", {}, false);
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual(["Subscribe"]);
    expect(await declare("create")).toEqual([]);
    expect(changes()).toEqual([]);
  });

  test("gives a queue of others that has neither a redrive nor a queue policy what is missing, and no more", async () => {
    const { declare, existing, changes } = await account();
    existing.queues.set("orders", { VisibilityTimeout: "7" });
    existing.queues.set("placed_-_-billing", {});
    expect(await declare("create")).toEqual([]);
    expect(existing.queues.get("orders")).toEqual({
      VisibilityTimeout: "7",
      RedrivePolicy: JSON.stringify({ deadLetterTargetArn: queueArn("orders_-dlq"), maxReceiveCount: 100 }),
    });
    expect(existing.queues.get("placed_-_-billing")?.Policy).toContain(topicArn("placed"));
    expect(changes().filter((action) => action === "SetQueueAttributes")).toHaveLength(3);
  });

  test("refuses what others have set otherwise, names all of it, and changes none of it", async () => {
    const { declare, existing, changes } = await made();
    const others = {
      RedrivePolicy: JSON.stringify({ deadLetterTargetArn: queueArn("elsewhere"), maxReceiveCount: 5 }),
    };
    const policy = JSON.stringify({
      Statement: { Effect: "Allow", Condition: { ArnEquals: { "aws:SourceArn": topicArn("x") } } },
    });
    existing.queues.set("orders", { ...others });
    existing.queues.set("placed_-_-billing", { ...others, Policy: policy });
    const problems = await declare("create");
    expect(codes(problems)).toEqual(["conflict", "conflict", "conflict"]);
    expect(said(problems)).toMatch(/queue "orders" redrives to another queue; set its RedrivePolicy to .*orders_-dlq/);
    expect(said(problems)).toMatch(/"placed" redrives to another queue; set its RedrivePolicy to .*billing_-dlq/);
    expect(said(problems)).toMatch(/a policy that does not name the topic; allow .*:placed to send messages to it/);
    expect(changes()).toEqual([]);
  });

  test("refuses a queue policy that is none", async () => {
    const { declare, existing } = await made();
    Object.assign(existing.queues.get("placed_-_-billing") ?? {}, { Policy: '{"Statement":[null]}' });
    const problems = await declare("create");
    expect(codes(problems)).toEqual(["conflict"]);
    expect(said(problems)).toContain("a policy that does not name the topic");
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
        expect(new Set(codes(problems))).toEqual(new Set(["conflict"]));
        expect(said(problems)).toContain(`queue "orders" exists on SQS as ${queue}`);
        expect(said(problems)).toContain(`topic "placed" exists on SNS as ${topic}`);
        expect(said(problems)).toContain(`dead letters of queue "orders" exist on SQS as ${queue}`);
      }
      expect(changes()).toEqual([]);
    },
  );

  test("a queue that another process makes at the same moment is taken as it is", async () => {
    const { aws, declare, existing } = await account();
    aws.on("CreateQueue", ({ QueueName }) => {
      existing.queues.set(String(QueueName), {});
      return { error: "QueueNameExists" };
    });
    expect(await declare("create")).toEqual([]);
    expect(existing.queues.get("orders")?.RedrivePolicy).toContain("orders_-dlq");
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

test.for(["CreateQueue", "CreateTopic"])("an answer to %s that names nothing is none of AWS", async (action) => {
  const { aws, declare } = await account();
  aws.on(action, () => ({ output: {} }));
  await expect(declare("create")).rejects.toMatchObject({
    code: "unreachable",
    message: expect.stringContaining(`the answer to ${action}Command is not from SQS or SNS`),
  });
});
