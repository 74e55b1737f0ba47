import { describe, expect, test } from "vitest";
import { pagesOf } from "../../adapters/sqs/registry.ts";
import { account } from "./declared.ts";
import { opened } from "./opened.ts";
import { topicArn } from "./scripted-account.ts";
import type { Script } from "./scripted-aws.ts";

const PLACED = { kind: "topic", name: "placed" } as const;

/** Pages that lead to one another, round and round. */
function round(list: string, ...tokens: readonly string[]): Script {
  return ({ NextToken }) => {
    const next = tokens[(tokens.indexOf(String(NextToken)) + 1) % tokens.length];
    const other = list === "QueueUrls" ? "http://sqs/0/other" : { TopicArn: topicArn("other") };
    return { output: { [list]: [other], NextToken: next } };
  };
}

describe("a listing that leads back to a page of its own", () => {
  test.for([[["a"]], [["a", "b", "c"]]])("of topics is refused: %j", async ([tokens = []]) => {
    const { aws, adapter } = await opened();
    aws.on("ListTopics", round("Topics", ...tokens));
    await expect(adapter.depth(PLACED)).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(
        /looking for topic "placed": the answer with topics is not from SQS or SNS: .*; check the endpoint/,
      ),
    });
    expect(aws.inputs("ListTopics")).toHaveLength(tokens.length + 1);
  });

  test("of subscriptions is refused", async () => {
    const { aws, declare } = await account();
    aws.on("ListSubscriptionsByTopic", round("Subscriptions", "a", "b"));
    const outcome = await declare("create").catch((error: unknown) => error);
    const problems = Array.isArray(outcome) ? outcome : [outcome];
    expect(problems.map(({ message }) => message).join()).toContain(
      "the answer with the subscriptions of a topic is not from SQS or SNS",
    );
  });
});

test.for<readonly [what: string, script: Script, expected: string]>([
  ["of queues that lead back", round("QueueUrls", "a", "b"), "its pages repeat"],
  ["of what are no URLs", () => ({ output: { QueueUrls: [5] } }), "it has another shape"],
  ["with a token that is none", () => ({ output: { NextToken: { a: 1 } } }), "it has another shape"],
])("a listing %s is refused", async ([, script, expected]) => {
  const { aws, adapter } = await opened();
  aws.on("ListQueues", script);
  await expect(adapter.list()).rejects.toMatchObject({
    code: "unreachable",
    message: expect.stringContaining(expected),
  });
  expect(aws.inputs("ListQueues").length).toBeLessThan(5);
});

test("a listing without an end is refused", async () => {
  let asked = 0;
  const all = async () => {
    for await (const _ of pagesOf("things", async () => ({ NextToken: String(++asked) })));
  };
  await expect(all()).rejects.toThrow("the answer with things is not from SQS or SNS: it has more than 10000 pages");
  expect(asked).toBeLessThan(10_010);
});

test("a token of any length is none", async () => {
  const pages = pagesOf("things", async () => ({ NextToken: "x".repeat(100_000) }));
  await pages.next();
  await expect(pages.next()).rejects.toThrow("have no end");
});
