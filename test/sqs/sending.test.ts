import { inspect } from "node:util";
import { describe, expect, test, vi } from "vitest";
import type { SendResult, Topology } from "../../core/adapter.ts";
import { HEADER } from "../../core/system-headers.ts";
import { CREDENTIALS, eventually, ORDERS, opened, receiving, send } from "./opened.ts";
import { headersOf, outgoing } from "./outgoing.ts";
import { ScriptedAccount } from "./scripted-account.ts";
import { entriesOf, type Input, type Script } from "./scripted-aws.ts";

const CREATE: Topology = {
  mode: "create",
  queues: [{ address: ORDERS, ordered: false, priorities: 1 }],
  topics: [],
  subscriptions: [],
};

const messages = (count: number) => Array.from({ length: count }, (_, index) => outgoing({ id: `m${index}` }));
const statuses = (results: readonly SendResult[]) =>
  results.map((result) => (result.status === "rejected" ? result.error.code : result.status));

describe("sending to SQS", () => {
  test("says of every entry what AWS says of it, and nothing more", async () => {
    const { aws, adapter } = await opened();
    aws.on("SendMessageBatch", () => ({
      output: {
        Successful: [{ Id: "0" }],
        Failed: [
          { Id: "1", Code: "InvalidMessageContents", SenderFault: true },
          { Id: "2", Code: "InternalError", SenderFault: false },
          { Id: "3", Code: "RequestThrottled", SenderFault: true },
          {
            Id: "4",
            Code: "InvalidParameterValue",
            SenderFault: true,
            Message: "Message must be shorter than 262144 bytes.",
          },
        ],
      },
    }));
    expect(statuses(await send(adapter, messages(6)))).toEqual([
      "confirmed",
      "invalid",
      "unknown",
      "unknown",
      "too-large",
      // AWS did not mention it.
      "unknown",
    ]);
    expect(aws.inputs("SendMessageBatch")).toHaveLength(1);
  });

  test.for([
    ["throttling", { error: "RequestThrottled" }],
    ["a failure of AWS", { error: "InternalFailure", status: 500 }],
    ["an answer of something in between", { raw: "<html>", status: 503 }],
    ["an answer that is none", { raw: "<html>", status: 200 }],
    ["a cut connection", "cut"],
  ] as const)("after %s nobody knows, and the engine is told at once", async ([, answer]) => {
    const { aws, adapter } = await opened();
    aws.next("SendMessageBatch", answer);
    expect(statuses(await send(adapter, messages(3)))).toEqual(["unknown", "unknown", "unknown"]);
    // The SDK did not try again by itself: only the engine knows what must not pass what.
    expect(aws.inputs("SendMessageBatch")).toHaveLength(1);
  });

  test("a request that is refused as a whole is tried by its messages", async () => {
    const { aws, adapter } = await opened();
    aws.on("SendMessageBatch", (input) => {
      const bad = entriesOf(input).some(({ MessageBody }) => MessageBody === "bad");
      return bad ? { error: "InvalidMessageContents" } : { output: { Successful: entriesOf(input) } };
    });
    aws.on("SendMessage", ({ MessageBody }) =>
      MessageBody === "bad" ? { error: "InvalidMessageContents" } : { output: { MessageId: "aws-id" } },
    );
    const batch = [outgoing({ id: "a" }), outgoing({ id: "b", body: Buffer.from("bad") }), outgoing({ id: "c" })];
    expect(statuses(await send(adapter, batch))).toEqual(["confirmed", "invalid", "confirmed"]);
  });

  test("makes as many requests as the limits ask for", async () => {
    const { aws, adapter } = await opened();
    // They are under way at once, and may arrive in any order.
    const sizes = () =>
      aws
        .inputs("SendMessageBatch")
        .map((input) => entriesOf(input).length)
        .sort((one, other) => other - one);
    expect(statuses(await send(adapter, messages(25)))).toEqual(new Array(25).fill("confirmed"));
    expect(sizes()).toEqual([10, 10, 5]);
    await send(
      adapter,
      Array.from({ length: 3 }, () => outgoing({ body: Buffer.alloc(500_000, "a") })),
    );
    expect(sizes()).toEqual([10, 10, 5, 2]);
    // What is left alone goes without the cost of a batch.
    expect(aws.inputs("SendMessage")).toHaveLength(1);
  });

  test("what is too large once it is encoded is refused before it is sent, alone", async () => {
    const { aws, adapter } = await opened();
    const batch = [outgoing(), outgoing({ body: Buffer.alloc(1_000_000, 0xff) }), outgoing()];
    expect(statuses(await send(adapter, batch))).toEqual(["confirmed", "too-large", "confirmed"]);
    expect(aws.entries("SendMessageBatch")).toHaveLength(2);
  });

  test.for(["geo.\uffff", "\0", "\ud800"])(
    "a routing key that SNS refuses is refused before it is sent: %j",
    async (key) => {
      const { aws, adapter } = await opened();
      const [result] = await send(adapter, [outgoing({ routingKey: key })]);
      const message = expect.stringContaining("control characters, lone surrogates, U+FFFE or U+FFFF; remove them");
      expect(result).toMatchObject({ status: "rejected", error: { code: "invalid", message } });
      expect(aws.inputs("SendMessage")).toEqual([]);
    },
  );

  test("an empty routing key is none", async () => {
    const { aws, adapter } = await opened();
    expect(statuses(await send(adapter, [outgoing({ routingKey: "" })]))).toEqual(["confirmed"]);
    expect(aws.inputs("SendMessage")[0]?.MessageAttributes).not.toHaveProperty("anybroker-routing-key");
  });

  test("delays are never shorter than asked for", async () => {
    const { aws, adapter } = await opened();
    await send(
      adapter,
      [0, 1, 1_000, 1_001, 900_000].map((delayMs) => outgoing({ delayMs })),
    );
    expect(aws.entries("SendMessageBatch").map(({ DelaySeconds }) => DelaySeconds)).toEqual([undefined, 1, 1, 2, 900]);
  });

  test("an ordered queue gets group and deduplication id, a standard one neither", async () => {
    const { aws, adapter } = await opened();
    await send(adapter, [outgoing({ key: "k" })]);
    aws.on("GetQueueUrl", ({ QueueName }) =>
      String(QueueName).endsWith(".fifo")
        ? { output: { QueueUrl: `${aws.url}/0/${QueueName}` } }
        : { error: "QueueDoesNotExist" },
    );
    const to = { kind: "queue", name: "ordered" } as const;
    // FIFO queues refuse a delay of a message alone: it travels as the time at which it is due.
    await send(adapter, [outgoing({ id: "a", key: "k" }), outgoing({ id: "b", key: "k", delayMs: 5_000 })], to);
    const [plain, delayed] = aws.entries("SendMessageBatch").map((entry) => JSON.stringify(entry));
    expect(`${plain}${delayed}`).not.toContain("DelaySeconds");
    expect([plain, delayed].map((entry) => entry?.includes(HEADER.dueAt))).toEqual([false, true]);
    const dead = { kind: "dead-letters", of: to } as const;
    await send(adapter, [outgoing({ id: "c", key: "k" }), outgoing({ id: "d", key: "k" })], dead);
    const all = [...aws.inputs("SendMessage"), ...aws.entries("SendMessageBatch")];
    const groups = all.map((entry) => [entry.MessageGroupId, entry.MessageDeduplicationId]);
    expect(groups).toEqual([
      [undefined, undefined],
      ["k", "a"],
      ["k", "b"],
      // Dead letters keep no order: one that is looked at hides no other.
      ["c", "c"],
      ["d", "d"],
    ]);
  });

  test("a queue that is gone is refused, or declared again where that is ours to do", async () => {
    const { aws, adapter, errors } = await opened();
    aws.next("SendMessageBatch", { error: "QueueDoesNotExist" }, { error: "QueueDoesNotExist" });
    expect(statuses(await send(adapter, messages(2)))).toEqual(["not-found", "not-found"]);
    const made: unknown[] = [];
    const arn = (url: unknown) => `arn:aws:sqs:eu-central-1:0:${String(url).split("/").at(-1)}`;
    const dead = "arn:aws:sqs:eu-central-1:0:orders_-dlq";
    aws.on("GetQueueAttributes", ({ QueueUrl }) => ({
      output: { Attributes: { QueueArn: arn(QueueUrl), RedrivePolicy: JSON.stringify({ deadLetterTargetArn: dead }) } },
    }));
    await adapter.declare(CREATE);
    aws.on("GetQueueUrl", () => ({ error: "QueueDoesNotExist" }));
    aws.on("CreateQueue", ({ QueueName }) => {
      made.push(QueueName);
      return { output: { QueueUrl: `${aws.url}/0/${QueueName}` } };
    });
    expect(statuses(await send(adapter, messages(2)))).toEqual(["unknown", "unknown"]);
    expect(made).toContain("orders");
    expect(errors[0]).toMatchObject({ code: "not-found", message: expect.stringMatching(/"orders" was deleted/) });
    expect(statuses(await send(adapter, messages(2)))).toEqual(["confirmed", "confirmed"]);
  });
});

/** A queue on an account that says of a queue that is gone that it is gone. */
async function usedQueue(mode: "create" | "none") {
  const { aws, adapter, errors } = await opened();
  const existing = new ScriptedAccount(aws);
  const onQueue = (script: Script) => (input: Input) =>
    existing.queues.has(String(input.QueueUrl).split("/").at(-1) ?? "")
      ? script(input)
      : ({ error: "QueueDoesNotExist" } as const);
  aws.on(
    "SendMessage",
    onQueue(() => ({ output: { MessageId: "aws-id" } })),
  );
  aws.on(
    "ReceiveMessage",
    onQueue(async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { output: {} };
    }),
  );
  if (mode === "none") for (const name of ["orders", "orders_-dlq"]) existing.queues.set(name, {});
  else expect(await adapter.declare(CREATE)).toEqual([]);
  expect(statuses(await send(adapter, messages(1)))).toEqual(["confirmed"]);
  const { inbox } = await receiving(adapter);
  await eventually(() => aws.inputs("ReceiveMessage").length > 0);
  return { aws, adapter, errors, existing, inbox };
}

test.for(["create", "none"] as const)(
  "a queue that one of the other kind replaced is used by nobody, until it is back (%s)",
  async (mode) => {
    const { adapter, existing, inbox } = await usedQueue(mode);
    existing.queues.delete("orders");
    existing.queues.set("orders.fifo", {});
    const [result] = await send(adapter, messages(1));
    expect(result).toMatchObject({
      status: "rejected",
      error: {
        code: "conflict",
        message:
          'queue "orders" was the queue "orders" when this process found it, and now only "orders.fifo" exists; delete "orders.fifo" and create "orders" again, or restart all processes that use it',
      },
    });
    await eventually(() => inbox.causes.at(-1)?.code === "conflict");
    existing.queues.delete("orders.fifo");
    existing.queues.set("orders", {});
    await eventually(() => inbox.said.at(-1) === "flowing");
    await vi.waitUntil(async () => statuses(await send(adapter, messages(1)))[0] === "confirmed", 30_000);
  },
);

test("sends to a queue that is created again wait for it, and so do later ones", async () => {
  const { aws, adapter, existing, errors } = await usedQueue("create");
  const gate = Promise.withResolvers<void>();
  aws.on("CreateQueue", async ({ QueueName }) => {
    await gate.promise;
    existing.queues.set(String(QueueName), {});
    return { output: { QueueUrl: `${aws.url}/000000000000/${QueueName}` } };
  });
  existing.queues.delete("orders");
  const first = send(adapter, messages(1));
  await eventually(() => errors.some(({ message }) => message.includes("recreating it")));
  const lookups = aws.inputs("GetQueueUrl").length;
  const later = send(adapter, messages(1));
  await eventually(() => aws.inputs("GetQueueUrl").length > lookups);
  gate.resolve();
  // The engine sends them again.
  expect(statuses([...(await first), ...(await later)])).toEqual(["unknown", "unknown"]);
  expect(statuses(await send(adapter, messages(1)))).toEqual(["confirmed"]);
});

describe("the connection to SQS", () => {
  test("is down when nothing answers, and up when something does", async () => {
    const { aws, adapter, signals } = await opened();
    aws.on("ListQueues", () => "cut");
    aws.next("SendMessage", "cut");
    await send(adapter, messages(1));
    expect(signals).toEqual(["down"]);
    expect(statuses(await send(adapter, messages(1)))).toEqual(["unknown"]);
    expect(aws.inputs("SendMessage")).toHaveLength(1);
    aws.on("ListQueues", () => ({ output: {} }));
    await eventually(() => signals.includes("up"));
    expect(statuses(await send(adapter, messages(1)))).toEqual(["confirmed"]);
  });

  test("nothing of credentials and bodies is in what is said", async () => {
    const { aws, adapter, errors } = await opened();
    const seen: unknown[] = [];
    const body = Buffer.from('{"secret":"canary-body"}');
    const headers = headersOf({ token: "canary-header" });
    aws.on("GetQueueAttributes", () => ({ error: "AccessDenied" }));
    seen.push(...(await adapter.declare({ ...CREATE, mode: "verify" })));
    for (const error of [
      "AccessDenied",
      "InvalidSecurity",
      "InvalidMessageContents",
      "InternalFailure",
      "QueueDoesNotExist",
    ]) {
      aws.next("SendMessage", { error }, { error });
      seen.push(...(await send(adapter, [outgoing({ body, headers })])));
    }
    aws.on("ListQueues", () => ({ raw: "<html>", status: 403 }));
    aws.next("SendMessage", "cut");
    seen.push(...(await send(adapter, [outgoing({ body, headers })])), ...errors);
    expect(seen.length).toBeGreaterThan(7);
    const { accessKeyId, secretAccessKey, sessionToken } = CREDENTIALS;
    for (const one of seen) {
      const said = inspect(one, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxStringLength: null });
      for (const secret of [accessKeyId, secretAccessKey, sessionToken, "canary-body", "canary-header"]) {
        expect(said).not.toContain(secret);
      }
    }
  });
});

describe("an answer that is none of SQS or SNS", () => {
  test.each([{}, { MessageId: "" }, { MessageId: 7 }, { html: "log in" }])("%j confirms nothing", async (output) => {
    const { aws, adapter } = await opened();
    aws.on("SendMessage", () => ({ output }));
    expect(statuses(await send(adapter, messages(1)))).toEqual(["unknown"]);
  });

  test.each([{ Successful: [null] }, { Successful: 7 }, { Failed: 5 }, { Successful: [{ Id: 1 }] }])(
    "%j for a batch confirms nothing",
    async (output) => {
      const { aws, adapter } = await opened();
      aws.on("SendMessageBatch", () => ({ output }));
      expect(statuses(await send(adapter, messages(2)))).toEqual(["unknown", "unknown"]);
    },
  );
});
