import { describe, expect, test } from "vitest";
import { eventually, ORDERS, opened, receiving, send } from "./opened.ts";
import { outgoing } from "./outgoing.ts";
import { ScriptedAccount } from "./scripted-account.ts";
import type { Answer } from "./scripted-aws.ts";

const MIB = 1024 * 1024;
const PLACED = { kind: "topic", name: "placed" } as const;
const TOO_LONG = { name: "AnswerShapeError", message: expect.stringMatching(/it has more than \d+ (bytes|values)/) };

const text = (raw: string, status = 200): Answer => ({ raw, status });
/** As long as it says, made of very small things. */
const many = (one: string, bytes: number): string => one.repeat(Math.ceil(bytes / one.length));

/** How long the process did nothing else meanwhile. */
async function stoodMs(work: () => Promise<unknown>): Promise<number> {
  const before = process.threadCpuUsage();
  await work();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1_000;
}

describe("an answer that is longer than any of AWS", () => {
  test.for([
    ["of many objects", `{"Messages":[${many("{},", 40 * MIB)}{}]}`],
    ["of many keys", `{${many('"a":1,', 40 * MIB)}"b":1}`],
    ["of many numbers", `{"x":[${many("1,", 40 * MIB)}1]}`],
    ["that is deep", many('{"a":', 40 * MIB)],
    ["of many texts", `{"x":[${many('"\\\\\\"",', 40 * MIB)}""]}`],
  ] as const)("to a poll, %s, costs little and is none", async ([, raw]) => {
    const { aws, adapter } = await opened();
    const { inbox } = await receiving(adapter);
    const stood = await stoodMs(async () => {
      aws.next("ReceiveMessage", text(raw));
      await eventually(() => inbox.causes.length > 0);
    });
    expect(inbox.causes[0]).toMatchObject({ code: "unreachable", cause: TOO_LONG });
    await eventually(() => inbox.said.includes("flowing"));
    // It was 24 s and more; the server of this test takes its share.
    expect(stood).toBeLessThan(5_000);
  });

  test.for([
    ["SendMessage", 2 * MIB, 200],
    ["SendMessage", 2 * MIB, 400],
  ] as const)("to %s, of %i bytes with status %i, is none", async ([action, bytes, status]) => {
    const { aws, adapter } = await opened();
    aws.next(action, text(`{"MessageId":"${"a".repeat(bytes)}"}`, status));
    expect(await send(adapter, [outgoing()])).toMatchObject([{ status: "unknown", cause: TOO_LONG }]);
  });

  test("to a refused poll is none", async () => {
    const { aws, adapter } = await opened();
    const { inbox } = await receiving(adapter);
    aws.next("ReceiveMessage", text(`{"__type":"AccessDenied","message":"${"a".repeat(2 * MIB)}"}`, 400));
    await eventually(() => inbox.causes.length > 0);
    expect(inbox.causes[0]).toMatchObject({ code: "unreachable", cause: TOO_LONG });
  });

  test.for([
    ["a text", "x".repeat(MIB / 2)],
    ["references", many("&amp;", MIB / 5)],
    ["tags", many("<b/>", MIB / 5)],
    ["quotes", `<a b="${many("&amp;", MIB / 5)}"/>`],
  ] as const)("of SNS, of %s, is none", async ([, content]) => {
    const { aws, adapter } = await opened();
    const account = new ScriptedAccount(aws);
    account.topics.set("placed", {});
    aws.next("PublishBatch", text(`<PublishBatchResponse>${content}</PublishBatchResponse>`));
    expect(await send(adapter, [outgoing()], PLACED)).toMatchObject([{ status: "unknown", cause: TOO_LONG }]);
  });
});

test("ten messages of 1 MiB, every character of them escaped, come", async () => {
  const { aws, adapter } = await opened();
  const body = '{[,:<&"'.repeat(MIB / 7);
  const escaped = body.replaceAll(/[^:]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`);
  const messages = Array.from({ length: 10 }, (_, at) => {
    return `{"MessageId":"id-${at}","ReceiptHandle":"r-${at}","Body":"${escaped}","Attributes":{"ApproximateReceiveCount":"1"}}`;
  });
  aws.next("ReceiveMessage", text(`{"Messages":[${messages.join()}]}`));
  const { inbox } = await receiving(adapter);
  await eventually(() => inbox.messages.length === 10);
  expect(inbox.messages.every((message) => message.body.length === body.length)).toBe(true);
  expect(inbox.causes).toEqual([]);
  expect(await adapter.identities(ORDERS)).toHaveLength(1);
});
