import { describe, expect, test, vi } from "vitest";
import type { DeliveryToken } from "../../core/adapter.ts";
import { consuming, fake, orders } from "./consuming.ts";
import { bringing, Feed, received } from "./feed.ts";
import { CREDENTIALS, eventually, holding, type Inbox, opened, receiving, send } from "./opened.ts";
import { outgoing } from "./outgoing.ts";
import { type Answer, entriesOf, type Input, type ScriptedAws } from "./scripted-aws.ts";

const DENIED: Answer = { error: "AccessDeniedException" };

const acks = (tokens: readonly DeliveryToken[]) => tokens.map((token) => ({ token, action: "ack" as const }));
const releases = (tokens: readonly DeliveryToken[]) => tokens.map((token) => ({ token, action: "requeue" as const }));
const done = (input: Input): Answer => ({ output: { Successful: entriesOf(input) } });
/** Fails every entry with a code. */
const failing = (Code: string, SenderFault: boolean, Message?: string) => (input: Input) => ({
  output: { Failed: entriesOf(input).map(({ Id }) => ({ Id, Code, SenderFault, Message })) },
});

/** Resolves when so many more of an action were asked for. */
async function asked(aws: ScriptedAws, action: string, more = 1): Promise<void> {
  const before = aws.inputs(action).length;
  await eventually(() => aws.inputs(action).length >= before + more);
}

const codes = ({ causes }: Inbox) => causes.map(({ code }) => code);

type Refusal = readonly [what: string, answer: Answer, code: string];

const UNAUTHORIZED: readonly Refusal[] = [
  ["a missing right", DENIED, "unauthorized"],
  ["a token that has expired", { error: "ExpiredTokenException", status: 403 }, "unauthorized"],
  ["what stands in between and says no", { raw: "<html>", status: 403 }, "unauthorized"],
];
/** Whatever is said of a request, and is no word on whose the message is. */
const REFUSALS: readonly Refusal[] = [
  ...UNAUTHORIZED,
  ["a queue that is gone", { error: "QueueDoesNotExist" }, "not-found"],
  ["what nobody has heard of", { error: "UnsupportedOperation" }, "refused"],
  ["throttling that lasts", { error: "RequestThrottled" }, "overloaded"],
  ["a failure that lasts", { error: "InternalFailure", status: 500 }, "unreachable"],
  ["no answer at all", "cut", "unreachable"],
];
const OF_EACH_SORT = REFUSALS.filter(([what]) => /token|gone/.test(what));

describe("deletes", () => {
  test.for(REFUSALS)("are kept through %s, and nothing more is taken meanwhile", async ([, answer, code]) => {
    const { aws, inbox, receiver, tokens } = await holding(3);
    const gate = Promise.withResolvers<void>();
    aws.next("ReceiveMessage", async () => {
      await gate.promise;
      return bringing(received({ id: "late" }));
    });
    receiver.prefetch(10);
    await eventually(() => aws.inputs("ReceiveMessage").length === 2);
    aws.on("DeleteMessageBatch", () => answer);
    let settled: unknown;
    receiver.settle(acks(tokens)).then((results) => {
      settled = results;
    });
    await eventually(() => inbox.said.length > 0);
    expect(inbox.said).toEqual(["stalled"]);
    expect(inbox.causes[0]).toMatchObject({
      code,
      message: expect.stringContaining('deleting messages of queue "ord'),
    });
    // The poll that was under way brings what has to go back, and is the last.
    gate.resolve();
    await eventually(() => aws.entries("ChangeMessageVisibilityBatch").length === 1);
    expect(aws.entries("ChangeMessageVisibilityBatch")).toMatchObject([
      { ReceiptHandle: "receipt-late", VisibilityTimeout: 0 },
    ]);
    const polls = aws.inputs("ReceiveMessage").length;
    await asked(aws, "DeleteMessageBatch");
    expect(aws.inputs("ReceiveMessage").length).toBe(polls);
    expect(inbox.messages).toHaveLength(3);
    expect(inbox.said).toEqual(["stalled"]);
    expect(settled).toBeUndefined();
    aws.on("DeleteMessageBatch", done);
    await eventually(() => settled !== undefined);
    expect(settled).toEqual(["settled", "settled", "settled"]);
    expect(inbox.said[1]).toBe("flowing");
    await asked(aws, "ReceiveMessage");
  });

  test("join what is kept already, and all go when ten have gone", async () => {
    const { aws, receiver, tokens, inbox } = await holding(30);
    aws.on("DeleteMessageBatch", () => DENIED);
    const first = receiver.settle(acks(tokens.slice(0, 4)));
    await eventually(() => inbox.said.includes("stalled"));
    const others = receiver.settle(acks(tokens.slice(4)));
    await asked(aws, "DeleteMessageBatch", 2);
    expect(aws.inputs("DeleteMessageBatch").map((input) => entriesOf(input).length)).toEqual([4, 10, 10]);
    aws.on("DeleteMessageBatch", done);
    expect([...(await first), ...(await others)]).toEqual(new Array(30).fill("settled"));
    const sizes = aws.inputs("DeleteMessageBatch").map((input) => entriesOf(input).length);
    expect(sizes.slice(-3)).toEqual([10, 10, 10]);
  });

  test("are refused one by one, too", async () => {
    const { aws, inbox, receiver, tokens } = await holding(2);
    aws.on("DeleteMessageBatch", (input) => {
      const [first, second] = entriesOf(input);
      if (second === undefined) return failing("AccessDenied", true)(input);
      return { output: { Successful: [first], Failed: [{ ...second, Code: "AccessDenied", SenderFault: true }] } };
    });
    const settled = receiver.settle(acks(tokens));
    await eventually(() => inbox.said.includes("stalled"));
    expect(codes(inbox)).toEqual(["unauthorized"]);
    aws.on("DeleteMessageBatch", done);
    expect(await settled).toEqual(["settled", "settled"]);
  });

  test("that fail alone, again and again, hold up nobody", async () => {
    const { aws, inbox, receiver, tokens } = await holding(2);
    aws.on("DeleteMessageBatch", (input) => {
      const [bad, good] = ["receipt-0-1", "receipt-1-1"].map((receipt) =>
        entriesOf(input).filter(({ ReceiptHandle }) => ReceiptHandle === receipt),
      );
      return {
        output: { Successful: good, Failed: bad?.map(({ Id }) => ({ Id, Code: "InternalError", SenderFault: false })) },
      };
    });
    expect(await receiver.settle(acks(tokens))).toEqual(["fenced", "settled"]);
    expect(inbox.said).toEqual([]);
  });

  test.for([
    ["ReceiptHandleIsInvalid", "The receipt handle has expired"],
    [
      "InvalidParameterValue",
      "Value A for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.",
    ],
  ] as const)("of what is not ours any more are over at once: %s", async ([Code, Message]) => {
    const { aws, inbox, receiver, tokens } = await holding(2);
    aws.on("DeleteMessageBatch", failing(Code, true, Message));
    expect(await receiver.settle(acks(tokens))).toEqual(["fenced", "fenced"]);
    expect(inbox.said).toEqual([]);
  });

  test("are asked for one by one where a whole request is refused for what is not ours in it", async () => {
    const { aws, receiver, tokens } = await holding(3);
    aws.on("DeleteMessageBatch", (input) => {
      const stale = entriesOf(input).some(({ ReceiptHandle }) => ReceiptHandle === "receipt-1-1");
      return stale ? { error: "ReceiptHandleIsInvalid" } : done(input);
    });
    expect(await receiver.settle(acks(tokens))).toEqual(["settled", "fenced", "settled"]);
  });

  test("keep the leases of what was handled until they go through", async () => {
    const { aws, receiver, tokens, inbox } = await holding(2, { visibilityTimeoutMs: 1_000 });
    aws.on("DeleteMessageBatch", () => DENIED);
    const settled = receiver.settle(acks(tokens));
    await eventually(() => inbox.said.includes("stalled"));
    await asked(aws, "ChangeMessageVisibilityBatch", 2);
    expect(aws.entries("ChangeMessageVisibilityBatch").slice(-2)).toMatchObject([
      { ReceiptHandle: "receipt-0-1", VisibilityTimeout: 1 },
      { ReceiptHandle: "receipt-1-1", VisibilityTimeout: 1 },
    ]);
    aws.on("DeleteMessageBatch", done);
    expect(await settled).toEqual(["settled", "settled"]);
  });

  test("of what a filter passes over are kept, and counted when they go through", async () => {
    const { aws, adapter } = await opened();
    const feed = new Feed(aws);
    aws.on("DeleteMessageBatch", () => DENIED);
    feed.give("placed_-_-billing", bringing(received({ id: "e-1", routingKey: "geo.us.la" })));
    const { inbox } = await receiving(adapter, 10, {
      address: { kind: "subscription", topic: "placed", name: "billing" },
      ordered: false,
      from: "now",
      filter: "*.us.ny",
    });
    await eventually(() => inbox.said.includes("stalled"));
    expect(inbox.said).toEqual(["stalled"]);
    aws.on("DeleteMessageBatch", done);
    await eventually(() => inbox.said.length === 3);
    expect(inbox.said.toSorted()).toEqual(["filtered 1", "flowing", "stalled"]);
    expect(inbox.messages).toEqual([]);
  });

  test("wait for credentials that cannot be had, which is no broken connection", async () => {
    let lost = false;
    const { aws, signals, receiver, tokens, inbox } = await holding(1, {
      credentials: async () => {
        if (lost) throw Object.assign(new Error("the vault is closed"), { name: "CredentialsProviderError" });
        // Over soon, so that they are asked for with every request.
        return { ...CREDENTIALS, expiration: new Date(Date.now() + 1_000) };
      },
    });
    lost = true;
    const settled = receiver.settle(acks(tokens));
    await eventually(() => inbox.said.includes("stalled"));
    expect(codes(inbox)).toEqual(["unauthorized"]);
    lost = false;
    expect(await settled).toEqual(["settled"]);
    expect(signals).toEqual([]);
    expect(aws.inputs("DeleteMessageBatch")).toHaveLength(1);
  });
});

describe("releases", () => {
  test.for(OF_EACH_SORT)("are kept through %s", async ([, answer, code]) => {
    const { aws, inbox, receiver, tokens } = await holding(2);
    aws.on("ChangeMessageVisibilityBatch", () => answer);
    const settled = receiver.settle(releases(tokens));
    await eventually(() => inbox.said.includes("stalled"));
    expect(codes(inbox)).toEqual([code]);
    aws.on("ChangeMessageVisibilityBatch", done);
    expect(await settled).toEqual(["settled", "settled"]);
  });

  test("are over with the lease, which gives the message back by itself", async () => {
    fake("Date");
    const { aws, inbox, receiver, tokens } = await holding(1);
    aws.on("ChangeMessageVisibilityBatch", () => DENIED);
    const settled = receiver.settle(releases(tokens));
    await eventually(() => inbox.said.includes("stalled"));
    vi.setSystemTime(Date.now() + 30_000);
    expect(await settled).toEqual(["fenced"]);
    const asks = aws.inputs("ChangeMessageVisibilityBatch").length;
    await eventually(() => inbox.said.includes("flowing"));
    expect(aws.inputs("ChangeMessageVisibilityBatch")).toHaveLength(asks);
  });
});

describe("renewals", () => {
  test.for(OF_EACH_SORT)("lose no lease by %s while it runs", async ([, answer, code]) => {
    fake("Date");
    const { aws, inbox, receiver, tokens } = await holding(2);
    const from = Date.now();
    aws.on("ChangeMessageVisibilityBatch", () => answer);
    expect(await receiver.extend(tokens)).toEqual([true, true]);
    expect(codes(inbox)).toEqual([code]);
    vi.setSystemTime(from + 20_000);
    expect(await receiver.extend(tokens)).toEqual([true, true]);
    expect(inbox.said).toEqual(["stalled"]);
    aws.on("ChangeMessageVisibilityBatch", done);
    expect(await receiver.extend(tokens)).toEqual([true, true]);
    expect(inbox.said).toEqual(["stalled", "flowing"]);
    // From the last one on, a lease of 30 seconds.
    aws.on("ChangeMessageVisibilityBatch", () => answer);
    vi.setSystemTime(from + 49_000);
    expect(await receiver.extend(tokens)).toEqual([true, true]);
    vi.setSystemTime(from + 51_000);
    expect(await receiver.extend(tokens)).toEqual([false, false]);
  });

  test("that are refused take nothing more, until nothing is held that could be lost", async () => {
    const { aws, inbox, receiver, tokens } = await holding(2);
    receiver.prefetch(10);
    aws.on("ChangeMessageVisibilityBatch", () => DENIED);
    await receiver.extend(tokens);
    expect(inbox.said).toEqual(["stalled"]);
    expect(await receiver.settle(acks(tokens.slice(0, 1)))).toEqual(["settled"]);
    expect(inbox.said).toEqual(["stalled"]);
    const polls = aws.inputs("ReceiveMessage").length;
    expect(await receiver.settle(acks(tokens.slice(1)))).toEqual(["settled"]);
    expect(inbox.said).toEqual(["stalled", "flowing"]);
    await eventually(() => aws.inputs("ReceiveMessage").length > polls);
  });

  test("over 12 hours, as SQS counts them, are no reason to stall, and the lease runs out", async () => {
    fake("Date");
    const { aws, inbox, receiver, tokens } = await holding(1);
    const end = Date.now() + 12 * 60 * 60 * 1_000;
    vi.setSystemTime(end - 40_000);
    expect(await receiver.extend(tokens)).toEqual([true]);
    vi.setSystemTime(end - 20_000);
    const text =
      "Value 20 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout is beyond the limit";
    aws.on("ChangeMessageVisibilityBatch", failing("InvalidParameterValue", true, text));
    expect(await receiver.extend(tokens)).toEqual([true]);
    expect(inbox.said).toEqual([]);
    vi.setSystemTime(end - 9_000);
    expect(await receiver.extend(tokens)).toEqual([false]);
  });
});

describe("several reasons", () => {
  test("are over when the last of them is", async () => {
    const { aws, inbox, receiver, tokens } = await holding(1);
    receiver.prefetch(10);
    aws.on("DeleteMessageBatch", () => DENIED);
    aws.on("ReceiveMessage", () => "cut");
    const settled = receiver.settle(acks(tokens));
    await eventually(() => codes(inbox).includes("unreachable") && codes(inbox).includes("unauthorized"));
    aws.on("ReceiveMessage", () => ({ output: {} }));
    await asked(aws, "DeleteMessageBatch", 2);
    expect(inbox.said).not.toContain("flowing");
    aws.on("DeleteMessageBatch", done);
    expect(await settled).toEqual(["settled"]);
    await eventually(() => inbox.said.at(-1) === "flowing");
  });
});

describe("sends", () => {
  const NAMES = [
    "AccessDenied",
    "ExpiredToken",
    "IncompleteSignatureException",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "KMS.DisabledException",
    "KmsAccessDenied",
    "KmsInvalidState",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "RequestExpired",
    "SignatureDoesNotMatch",
  ];

  test.for([...UNAUTHORIZED, ...NAMES.map((error): Refusal => [error, { error }, "unauthorized"])])(
    "are refused as unauthorized by %s, all of a batch at once",
    async ([, answer]) => {
      const { aws, adapter } = await opened();
      aws.on("SendMessageBatch", () => answer);
      const results = await send(adapter, [outgoing({ id: "a" }), outgoing({ id: "b" })]);
      expect(results).toMatchObject(new Array(2).fill({ status: "rejected", error: { code: "unauthorized" } }));
      expect(aws.inputs("SendMessageBatch")).toHaveLength(1);
      expect(aws.inputs("SendMessage")).toEqual([]);
    },
  );

  test("of one entry may be refused so, whoever is said to be at fault", async () => {
    const { aws, adapter } = await opened();
    aws.on("SendMessageBatch", failing("KmsAccessDenied", false));
    const results = await send(adapter, [outgoing({ id: "a" }), outgoing({ id: "b" })]);
    expect(results).toMatchObject(new Array(2).fill({ status: "rejected", error: { code: "unauthorized" } }));
  });

  test("of copies leave the retry to the consumer, and the original stays until a copy is confirmed", async () => {
    const { aws, feed, broker, consumer } = await consuming({
      from: orders,
      handler: () => {
        throw new Error("not yet");
      },
    });
    expect(broker.status().state).toBe("started");
    aws.next("SendMessage", { error: "ExpiredTokenException", status: 403 });
    feed.give("orders", bringing(received({ id: "a" })));
    await eventually(() => aws.inputs("SendMessage").length === 2);
    await eventually(() => aws.entries("DeleteMessageBatch").length === 1);
    expect(consumer.status()).toMatchObject({ retried: 2, deadLettered: 0 });
  });
});
