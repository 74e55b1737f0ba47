import { describe, expect, test } from "vitest";
import { allows } from "../../adapters/sqs/topology/queues.ts";
import { topicArn } from "./scripted-account.ts";

describe("a queue policy", () => {
  const statement = (given: object) => JSON.stringify({ Statement: [{ Effect: "Allow", ...given }] });
  const source = (arn: string, operator = "ArnLike") => ({ Condition: { [operator]: { "aws:SourceArn": arn } } });
  const topic = topicArn("a_-b");

  test.for([
    ["exactly", statement(source(topic, "ArnEquals"))],
    ["among others", statement({ Condition: { StringEquals: { "aws:SourceArn": [topicArn("x"), topic] } } })],
    ["by a pattern", statement(source("arn:aws:sns:*:000000000000:a_-?"))],
    ["by a pattern with many stars", statement(source(`arn:aws:sns:*:*${"*".repeat(60)}:*a*_*-**b*`))],
    ["by a pattern that needs a second look", statement(source(`arn:aws:sns:*:*0?00:a?-b`))],
    ["in a statement that is no list", JSON.stringify({ Statement: { Effect: "Allow", ...source(topic) } })],
  ])("allows a topic that it names %s", ([, policy]) => {
    expect(allows(policy ?? "", topic)).toBe(true);
  });

  test.for(["*".repeat(30), "*a".repeat(30), "*?".repeat(30)])(
    "is read in no time by a pattern such as %s!",
    (part) => {
      const long = topicArn("a".repeat(200));
      const policy = (pattern: string) => statement(source(`arn:aws:sns:*:*:${pattern}`));
      expect(allows(policy(`${part}!`), long)).toBe(false);
      expect(allows(policy(`${part}a`), long)).toBe(true);
    },
  );

  test.for([
    ["another topic", statement(source(topicArn("a_-bc")))],
    ["a pattern for others", statement(source("arn:aws:sns:*:000000000000:c*"))],
    ["a pattern with one more", statement(source(`${topic}?`))],
    ["a pattern that is no expression", statement(source("arn:aws:sns:*:*:[a]_-b"))],
    ["a pattern over the parts of an ARN", statement(source("arn:*"))],
    ["a refusal", statement({ ...source(topic), Effect: "Deny" })],
    ["the topic as a resource", statement({ Resource: topic })],
    ["nothing", "{}"],
    ["null", "null"],
    ["a statement that is null", '{"Statement":[null]}'],
    ["no statement", '{"Statement":null}'],
    ["a statement that is a text", '{"Statement":"Allow"}'],
    [
      "what is too deep to read",
      statement({ Condition: "deep" }).replace('"deep"', "[".repeat(50_000) + "]".repeat(50_000)),
    ],
    ["what is no JSON", topic],
  ])("does not by %s", ([, policy]) => {
    expect(allows(policy ?? "", topic)).toBe(false);
  });
});
