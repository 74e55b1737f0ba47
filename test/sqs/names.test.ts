import { createBroker, queue as queueNamed, topic } from "anybroker";
import { describe, expect, onTestFinished, test } from "vitest";
import { awsName, physicalName } from "../../adapters/sqs/names.ts";
import type { Address } from "../../core/address.ts";
import { unopened } from "./opened.ts";
import { ScriptedAccount } from "./scripted-account.ts";

const queue = (name: string): Address => ({ kind: "queue", name });

describe("names on SQS and SNS", () => {
  test("are what SQS takes, and no two are one", () => {
    const names = ["a.b", "a_b", "a-b", "a__b", "a_-b", "a._b", "a_.b", "a.-b", "A.b", "a_-_b", "a._-b", "a-_b"];
    const made = names.map((name) => awsName(queue(name), ""));
    expect(new Set(made).size).toBe(names.length);
    for (const name of made) expect(name).toMatch(/^[A-Za-z0-9_-]{1,75}$/);
  });

  test("of dead letters, quarantine logs and subscriptions are apart from the queue's", () => {
    const of = { kind: "queue", name: "orders" } as const;
    const addresses: Address[] = [
      of,
      { kind: "dead-letters", of },
      { kind: "quarantine", of },
      { kind: "subscription", topic: "orders", name: "billing" },
    ];
    expect(new Set(addresses.map((address) => awsName(address, ""))).size).toBe(4);
  });

  test("begin with the prefix, and a mark that no name has", () => {
    expect(awsName(queue("orders"), "prod")).toBe("prod_orders");
    expect(awsName(queue("eu-orders"), "prod-")).not.toBe(awsName(queue("orders"), "prod-eu-"));
  });

  test("too long for AWS are refused, with what to do", () => {
    expect(awsName(queue("q".repeat(75)), "")).toHaveLength(75);
    expect(() => awsName(queue("q".repeat(76)), "")).toThrow(/75 characters.*shorter/);
    expect(() => awsName(queue(".".repeat(38)), "")).toThrow(expect.objectContaining({ code: "invalid" }));
    expect(awsName({ kind: "topic", name: "t".repeat(200) }, "")).toHaveLength(200);
    // A quarantine log is never a FIFO queue.
    const logOf = (name: string): Address => ({ kind: "quarantine", of: { kind: "queue", name } });
    expect(awsName(logOf("q".repeat(68)), "")).toHaveLength(80);
    expect(() => awsName(logOf("q".repeat(69)), "")).toThrow(/at most 80 characters; .*shorter/);
  });

  test("of a queue and a topic do not collide", () => {
    expect(physicalName(queue("orders"), "")).not.toBe(physicalName({ kind: "topic", name: "orders" }, ""));
  });

  test("of a queue and of a subscription are two, however they look", async () => {
    const { aws, adapter } = await unopened({ namePrefix: "prod" });
    const account = new ScriptedAccount(aws);
    const broker = createBroker(adapter, { destinations: [queueNamed("a.b")] });
    broker.subscribe(topic("a"), "b", () => {});
    onTestFinished(() => broker.stop());
    await broker.start();
    expect(["prod_a_-b", "prod_a_-_-b"].map((name) => account.queues.has(name))).toEqual([true, true]);
  });

  test("of a queue and a topic may be one", async () => {
    const { aws, adapter } = await unopened();
    const account = new ScriptedAccount(aws);
    const broker = createBroker(adapter, { destinations: [queueNamed("a"), topic("a")] });
    onTestFinished(() => broker.stop());
    await broker.start();
    expect([account.queues.has("a"), account.topics.has("a")]).toEqual([true, true]);
  });
});
