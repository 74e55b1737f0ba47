import { expect, test } from "vitest";
import { brings, eventually, opened, receiving } from "./opened.ts";
import { outgoing } from "./outgoing.ts";
import type { Answer, ScriptedAws } from "./scripted-aws.ts";

const LETTER = outgoing({ id: "id-0" });

function policy(maxReceiveCount: number, queue = "orders_-dlq"): Answer {
  const deadLetterTargetArn = `arn:aws:sqs:eu-central-1:000000000000:${queue}`;
  return { output: { Attributes: { RedrivePolicy: JSON.stringify({ deadLetterTargetArn, maxReceiveCount }) } } };
}

/** A queue with one message, that comes again whenever it is given back, until it was received as often as may be. */
function oneMessage(aws: ScriptedAws, mostReceives: number) {
  let receives = 0;
  let hidden = false;
  aws.on("ReceiveMessage", async () => {
    await new Promise((resolve) => setTimeout(resolve, 2));
    if (hidden || receives >= mostReceives) return { output: {} };
    hidden = true;
    return brings(1, ++receives);
  });
  aws.on("ChangeMessageVisibilityBatch", ({ Entries }) => {
    hidden = false;
    return { output: { Successful: Entries as object[], Failed: [] } };
  });
  return { receives: () => receives };
}

async function holding(answer: Answer, mostReceives = 50) {
  const { aws, adapter } = await opened();
  aws.on("GetQueueAttributes", () => answer);
  const queue = oneMessage(aws, mostReceives);
  const { inbox, receiver } = await receiving(adapter);
  await eventually(() => inbox.messages.length === 1);
  const move = () => receiver.deadLetter?.(inbox.messages.at(-1)?.token, LETTER);
  return { aws, inbox, receiver, queue, move };
}

test("a message that is left to the redrive policy is given back until SQS has moved it, and not delivered", async () => {
  const { inbox, receiver, queue, move } = await holding(policy(20), 20);
  expect(await move()).toEqual({ status: "settled" });
  await eventually(() => queue.receives() === 20);
  expect(inbox.messages).toHaveLength(1);
  expect(await move()).toEqual({ status: "fenced" });
  expect(await receiver.settle([{ token: inbox.messages[0]?.token, action: "ack" }])).toEqual(["fenced"]);
});

test.for([
  ["no policy", { output: { Attributes: {} } }, "conflict", "there is none"],
  ["a policy to elsewhere", policy(20, "elsewhere"), "conflict", "elsewhere"],
  ["a policy that cannot be read", { output: { Attributes: { RedrivePolicy: "{" } } }, "conflict", "there is none"],
  ["a policy that is null", { output: { Attributes: { RedrivePolicy: "null" } } }, "conflict", "there is none"],
  ["no right to look", { error: "AccessDenied", status: 403 }, "unauthorized", "AccessDenied"],
] as const)("%s: it is refused, and the delivery is as before", async ([, answer, code, text]) => {
  const { inbox, receiver, move } = await holding(answer);
  const result = await move();
  expect(result).toMatchObject({ status: "refused", error: { code, message: expect.stringContaining(text) } });
  expect(await receiver.settle([{ token: inbox.messages[0]?.token, action: "ack" }])).toEqual(["settled"]);
});

test("without an answer nothing is known, and the delivery is as before", async () => {
  const { inbox, receiver, move } = await holding({ raw: "<html>", status: 503 });
  expect(await move()).toMatchObject({ status: "unknown" });
  expect(await receiver.settle([{ token: inbox.messages[0]?.token, action: "ack" }])).toEqual(["settled"]);
});

test("where the policy has changed meanwhile, nothing is given back without an end", async () => {
  const { inbox, queue, move } = await holding(policy(5));
  expect(await move()).toEqual({ status: "settled" });
  await eventually(() => inbox.messages.length === 2);
  expect(queue.receives()).toBe(6);
  expect(inbox.messages[1]).toMatchObject({ id: "id-0", redeliveries: 5 });
});
