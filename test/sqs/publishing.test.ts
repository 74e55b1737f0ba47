import { inspect } from "node:util";
import { createBroker, topic } from "anybroker";
import { describe, expect, onTestFinished, test } from "vitest";
import type { SendResult, Topology } from "../../core/adapter.ts";
import type { TopicAddress } from "../../core/address.ts";
import { HEADER } from "../../core/system-headers.ts";
import { CREDENTIALS, opened, send, unopened } from "./opened.ts";
import { headersOf, outgoing } from "./outgoing.ts";
import { ScriptedAccount, topicArn } from "./scripted-account.ts";
import { entriesOf, type Input } from "./scripted-aws.ts";

const PLACED: TopicAddress = { kind: "topic", name: "placed" };

const messages = (count: number) => Array.from({ length: count }, (_, index) => outgoing({ id: `m${index}` }));
const statuses = (results: readonly SendResult[]) =>
  results.map((result) => (result.status === "rejected" ? result.error.code : result.status));
const stored = (input: Input) => ({ output: { Successful: entriesOf(input).map(({ Id }) => ({ Id })), Failed: [] } });

/** An adapter onto an account where the topic stands and takes everything. */
async function publishing(name = "placed") {
  const all = await opened();
  const account = new ScriptedAccount(all.aws);
  account.topics.set(name, {});
  all.aws.on("PublishBatch", stored);
  return { ...all, account };
}

/** The ids of the messages in each request, in order. */
function idsOf(inputs: readonly Input[]): string[][] {
  return inputs.map((input) =>
    entriesOf(input).map(({ MessageAttributes }) => {
      const { anybroker } = MessageAttributes as Record<string, { StringValue: string }>;
      return JSON.parse(anybroker?.StringValue ?? "{}").id;
    }),
  );
}

describe("publishing to SNS", () => {
  test("says of every entry what AWS says of it, and nothing of one that it does not name", async () => {
    const { aws, adapter } = await publishing();
    aws.on("PublishBatch", () => ({
      output: {
        Successful: [{ Id: "0", MessageId: "sns-id" }],
        Failed: [
          { Id: "1", Code: "InvalidParameter", SenderFault: true, Message: "Invalid parameter: attribute" },
          { Id: "2", Code: "InternalError", SenderFault: false },
          { Id: "3", Code: "Throttled", SenderFault: true },
          { Id: "4", Code: "KMSThrottling", SenderFault: true },
          { Id: "5", Code: "InvalidParameter", SenderFault: true, Message: "Invalid parameter: Message too long" },
        ],
      },
    }));
    expect(statuses(await send(adapter, messages(7), PLACED))).toEqual([
      "confirmed",
      "invalid",
      "unknown",
      "unknown",
      "unknown",
      "too-large",
      "unknown",
    ]);
    expect(aws.inputs("PublishBatch")).toHaveLength(1);
  });

  test("sends again only what failed without being refused", async () => {
    const { aws, adapter } = await unopened();
    new ScriptedAccount(aws).topics.set("placed", {});
    const placed = topic<{ n: number }>("placed");
    const broker = createBroker(adapter, { declare: "none", destinations: [placed] });
    onTestFinished(() => broker.stop());
    await broker.start();
    aws.on("PublishBatch", stored);
    aws.next("PublishBatch", {
      output: {
        Successful: [{ Id: "0" }],
        Failed: [
          { Id: "1", Code: "InvalidParameter", SenderFault: true },
          { Id: "2", Code: "InternalError", SenderFault: false },
          { Id: "3", Code: "Throttled", SenderFault: false },
        ],
      },
    });
    const published = ["a", "b", "c", "d", "e"].map((id, n) => broker.publish(placed, { n }, { id }));
    const results = (await Promise.allSettled(published)).map((one) =>
      one.status === "fulfilled" ? one.value.id : one.reason.code,
    );
    expect(results).toEqual(["a", "invalid", "c", "d", "e"]);
    const [first, ...others] = idsOf(aws.inputs("PublishBatch"));
    expect(first).toEqual(["a", "b", "c", "d", "e"]);
    expect(others.flat().sort()).toEqual(["c", "d", "e"]);
  });

  test.for([
    ["throttling", { error: "Throttled", status: 429 }],
    ["throttling by another name", { error: "Throttling" }],
    ["a failure of AWS", { error: "InternalError", status: 500 }],
    ["an answer that is none", { raw: "<html>", status: 200 }],
    ["a cut connection", "cut"],
  ] as const)("after %s nobody knows, and the engine is told at once", async ([, answer]) => {
    const { aws, adapter } = await publishing();
    aws.next("PublishBatch", answer);
    expect(statuses(await send(adapter, messages(3), PLACED))).toEqual(["unknown", "unknown", "unknown"]);
    expect(aws.inputs("PublishBatch")).toHaveLength(1);
  });

  test("a request that is refused as a whole is tried by its messages", async () => {
    const { aws, adapter } = await publishing();
    aws.on("PublishBatch", (input) =>
      entriesOf(input).some(({ Message }) => Message === "bad") ? { error: "InvalidParameter" } : stored(input),
    );
    const batch = [outgoing({ id: "a" }), outgoing({ id: "b", body: Buffer.from("bad") }), outgoing({ id: "c" })];
    expect(statuses(await send(adapter, batch, PLACED))).toEqual(["confirmed", "invalid", "confirmed"]);
  });

  test("keeps to the size of a batch, and refuses one message that is over it", async () => {
    const { aws, adapter } = await publishing();
    const body = (bytes: number) => outgoing({ body: Buffer.alloc(bytes, "a") });
    const batch = [body(130_000), body(131_000), body(2_000), body(262_144), body(1)];
    expect(statuses(await send(adapter, batch, PLACED))).toEqual([
      "confirmed",
      "confirmed",
      "confirmed",
      "too-large",
      "confirmed",
    ]);
    for (const input of aws.inputs("PublishBatch")) {
      expect(entriesOf(input).reduce((sum, { Message }) => sum + String(Message).length, 0)).toBeLessThan(262_144);
    }
    await send(adapter, messages(25), PLACED);
    expect(Math.max(...aws.inputs("PublishBatch").map((input) => entriesOf(input).length))).toBe(10);
  });

  test("what SNS has to know stands beside the body: the routing key for filters, group and deduplication in order", async () => {
    const { aws, adapter } = await publishing("placed.fifo");
    const given = { key: "k", routingKey: "geo.us", body: Buffer.from("ü<&>") };
    await send(adapter, [outgoing({ id: "a", ...given }), outgoing({ id: "b", ...given, delayMs: 5_000 })], PLACED);
    const [input] = aws.inputs("PublishBatch");
    expect(input).toMatchObject({ TopicArn: topicArn("placed.fifo") });
    for (const [index, entry] of entriesOf(input ?? {}).entries()) {
      expect(entry).toMatchObject({
        Message: "ü<&>",
        MessageGroupId: "k",
        MessageDeduplicationId: ["a", "b"][index],
        MessageAttributes: { "anybroker-routing-key": { DataType: "String", StringValue: "geo.us" } },
      });
      // SNS has no delays: the subscription's consumer sends it on.
      expect(JSON.stringify(entry).includes(HEADER.dueAt)).toBe(index === 1);
    }
  });

  test("a topic that is gone is refused, or declared again where that is ours to do", async () => {
    const { aws, adapter, account, errors } = await publishing();
    const topology: Topology = {
      mode: "create",
      queues: [],
      topics: [{ address: PLACED, ordered: false }],
      subscriptions: [
        { address: { ...PLACED, kind: "subscription", topic: "placed", name: "s" }, ordered: false, from: "now" },
      ],
    };
    const gone = { error: "NotFound", status: 404 };
    aws.next("PublishBatch", gone);
    expect(statuses(await send(adapter, messages(2), PLACED))).toEqual(["not-found", "not-found"]);
    expect(await adapter.declare(topology)).toEqual([]);
    account.topics.clear();
    account.subscriptions.length = 0;
    aws.next("PublishBatch", gone);
    expect(statuses(await send(adapter, messages(2), PLACED))).toEqual(["unknown", "unknown"]);
    expect(errors[0]).toMatchObject({
      code: "not-found",
      message: expect.stringMatching(/topic "placed" was deleted/),
    });
    // With the topic went its subscriptions.
    expect(account.subscriptions).toMatchObject([{ topic: "placed", queue: "placed_-_-s" }]);
    expect(statuses(await send(adapter, messages(2), PLACED))).toEqual(["confirmed", "confirmed"]);
  });

  test("nothing of credentials and bodies is in what is said", async () => {
    const { aws, adapter, errors } = await publishing();
    const body = Buffer.from('{"secret":"canary-body"}');
    const headers = headersOf({ token: "canary-header" });
    const seen: unknown[] = [];
    for (const error of [
      "AuthorizationError",
      "InvalidParameter",
      "InternalError",
      "NotFound",
      "InvalidClientTokenId",
    ]) {
      aws.next("PublishBatch", { error, status: error === "InternalError" ? 500 : 400 });
      seen.push(...(await send(adapter, [outgoing({ body, headers })], PLACED)));
    }
    for (const action of ["ListTopics", "CreateTopic", "ListSubscriptionsByTopic", "Subscribe"]) {
      aws.next(action, { error: "AuthorizationError", status: 403 });
      const subscription = { address: { kind: "subscription", topic: "placed", name: action } as const };
      const topics = [{ address: { kind: "topic", name: action } as const, ordered: false }];
      const subscriptions = [{ ...subscription, ordered: false, from: "now" as const }];
      const problems = await adapter.declare({ mode: "create", queues: [], topics, subscriptions });
      expect(problems.map(({ code }) => code)).toContain("unauthorized");
      seen.push(...problems);
    }
    aws.next("PublishBatch", "cut");
    seen.push(...(await send(adapter, [outgoing({ body, headers })], PLACED)), ...errors);
    expect(seen.length).toBeGreaterThan(9);
    for (const one of seen) {
      const said = inspect(one, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxStringLength: null });
      for (const secret of [...Object.values(CREDENTIALS), "canary-body", "canary-header"]) {
        expect(said).not.toContain(secret);
      }
    }
  });
});
