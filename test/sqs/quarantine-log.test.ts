import { describe, expect, onTestFinished, test } from "vitest";
import type { SqsOptions } from "../../adapters/sqs/index.ts";
import { QUARANTINE_KEPT_MS } from "../../core/adapter.ts";
import { made, wanted } from "./declared.ts";
import { ORDERS, opened } from "./opened.ts";
import type { Answer } from "./scripted-aws.ts";

const DAY_MS = QUARANTINE_KEPT_MS;
const NAME = "orders_-quarantine";

/** What a poll brings of a log: records, each under an id of its own, sent just now unless told otherwise. */
function holds(records: Readonly<Record<string, string>>, sentAt = Date.now()): Answer {
  const Messages = Object.entries(records).map(([id, record]) => ({
    MessageId: id,
    ReceiptHandle: `receipt of ${id}`,
    Body: JSON.stringify(record),
    Attributes: { SentTimestamp: String(sentAt) },
  }));
  return { output: { Messages } };
}

const EMPTY: Answer = { output: {} };

async function logOfOrders(options: SqsOptions = {}) {
  const { aws, adapter, signals } = await opened(options);
  return { aws, adapter, signals, log: adapter.quarantine(ORDERS) };
}

describe("a quarantine log", () => {
  test("asks nothing before its first use, and is refused when the adapter is closed", async () => {
    const { aws, adapter, log } = await logOfOrders();
    expect(aws.requests.map(({ action }) => action)).toEqual(["ListQueues"]);
    await adapter.close();
    await expect(log.append("a")).rejects.toMatchObject({ code: "closed" });
    await expect(log.read()).rejects.toMatchObject({ code: "closed" });
  });

  test("appends by one request, and knows what it appended itself though no poll brings it", async () => {
    const { aws, log } = await logOfOrders();
    await log.append("a");
    expect(aws.inputs("SendMessage")).toMatchObject([{ QueueUrl: expect.stringMatching(/\/orders_-quarantine$/) }]);
    expect(await log.read()).toEqual(["a"]);
  });

  test("reads until nothing more comes, and gives back all that it took", async () => {
    const { aws, log } = await logOfOrders();
    aws.next("ReceiveMessage", holds({ 1: "a", 2: "b" }), holds({ 3: "c" }), EMPTY);
    expect([...(await log.read())].sort()).toEqual(["a", "b", "c"]);
    const [poll] = aws.inputs("ReceiveMessage");
    expect(poll).toMatchObject({ MaxNumberOfMessages: 10, WaitTimeSeconds: 1, VisibilityTimeout: 5 });
    expect(aws.entries("ChangeMessageVisibilityBatch")).toMatchObject(
      ["1", "2", "3"].map((id) => ({ ReceiptHandle: `receipt of ${id}`, VisibilityTimeout: 0 })),
    );
    expect(aws.inputs("DeleteMessageBatch")).toEqual([]);
  });

  test("adds what is new to what it has seen, each once, and forgets it after a day", async () => {
    const { aws, log } = await logOfOrders();
    aws.next("ReceiveMessage", holds({ 1: "a", 2: "same" }), EMPTY, holds({ 1: "a", 3: "same" }), EMPTY);
    expect([...(await log.read())].sort()).toEqual(["a", "same"]);
    // The message of id 2 is in the hands of another reader.
    expect([...(await log.read())].sort()).toEqual(["a", "same", "same"]);
    aws.next("ReceiveMessage", holds({ 4: "old" }, Date.now() - DAY_MS), EMPTY);
    expect([...(await log.read())].sort()).toEqual(["a", "same", "same"]);
  });

  test("carries every text, and passes over what others put there", async () => {
    const { aws, log } = await logOfOrders();
    const record = '{"id":"Zürich \u0000 \uFFFE \uD800 🐰"}';
    await log.append(record);
    const [sent] = aws.inputs("SendMessage");
    expect(sent?.MessageBody).toMatch(/^[ -~]+$/);
    const message = (MessageId: string, Body: unknown) => ({ MessageId, ReceiptHandle: MessageId, Body });
    const Messages = [message("1", sent?.MessageBody), message("2", "no record"), message("3", "{}")];
    aws.next("ReceiveMessage", { output: { Messages } }, EMPTY);
    // A second adapter, which has not appended it.
    const { adapter } = await opened({ endpoint: aws.url });
    expect(await adapter.quarantine(ORDERS).read()).toEqual([record]);
    expect(aws.entries("ChangeMessageVisibilityBatch")).toHaveLength(3);
  });

  test("is read though nothing can be given back", async () => {
    const { aws, log } = await logOfOrders();
    aws.on("ChangeMessageVisibilityBatch", () => ({ error: "AccessDenied", status: 403 }));
    aws.next("ReceiveMessage", holds({ 1: "a" }), EMPTY);
    expect(await log.read()).toEqual(["a"]);
  });

  test("keeps and gives back what it took before a poll failed", async () => {
    const { aws, log } = await logOfOrders();
    aws.next("ReceiveMessage", holds({ 1: "a" }), { error: "AccessDenied", status: 403 });
    await expect(log.read()).rejects.toMatchObject({ code: "unauthorized" });
    expect(aws.entries("ChangeMessageVisibilityBatch")).toHaveLength(1);
    expect(await log.read()).toEqual(["a"]);
  });

  test("takes no more than a thousand messages at a time, however often they come", async () => {
    const { aws, log } = await logOfOrders({ requestTimeoutMs: 600_000 });
    const ten = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`id-${index}`, `record ${index}`]));
    aws.on("ReceiveMessage", () => holds(ten));
    await expect(log.read(), "more may be there").rejects.toMatchObject({ code: "overloaded" });
    expect(aws.inputs("ReceiveMessage")).toHaveLength(100);
    expect(aws.entries("ChangeMessageVisibilityBatch")).toHaveLength(1_000);
    expect(await log.read(), "nothing new came").toHaveLength(10);
  });

  test("is read once for all who ask while it is read, after what they may have appended", async () => {
    const { aws, adapter, log } = await logOfOrders();
    const first = Promise.withResolvers<Answer>();
    const polled = Promise.withResolvers<void>();
    aws.next(
      "ReceiveMessage",
      () => {
        polled.resolve();
        return first.promise;
      },
      holds({ 1: "later" }),
      EMPTY,
    );
    const before = log.read();
    await polled.promise;
    const others = [log, adapter.quarantine(ORDERS), log].map((one) => one.read());
    first.resolve(EMPTY);
    expect(await before).toEqual([]);
    expect(await Promise.all(others)).toEqual([["later"], ["later"], ["later"]]);
    expect(aws.inputs("ReceiveMessage")).toHaveLength(3);
  });

  test("closes when the poll under way has ended, and gives back what that brought", async () => {
    const { aws, adapter, log } = await logOfOrders();
    const polled = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<Answer>();
    aws.next("ReceiveMessage", () => {
      polled.resolve();
      return answer.promise;
    });
    const reads = Promise.allSettled([log.read(), polled.promise.then(() => log.read())]);
    await polled.promise;
    const closed = adapter.close();
    answer.resolve(holds({ 1: "a" }));
    await closed;
    expect(aws.entries("ChangeMessageVisibilityBatch")).toHaveLength(1);
    expect(aws.inputs("ReceiveMessage")).toHaveLength(1);
    for (const read of await reads) expect(read).toMatchObject({ status: "rejected", reason: { code: "closed" } });
  });

  test.for([false, true])("that was deleted is made again where it is declared (ordered: %s)", async (ordered) => {
    const { adapter, existing, aws } = await made(wanted({ ordered }));
    onTestFinished(() => adapter.close());
    const log = adapter.quarantine(ORDERS);
    const gone = (): Answer => (existing.queues.has(NAME) ? EMPTY : { error: "QueueDoesNotExist" });
    aws.on("SendMessage", () => (existing.queues.has(NAME) ? { output: { MessageId: "1" } } : gone()));
    aws.on("ReceiveMessage", gone);
    existing.queues.delete(NAME);
    await log.append("a");
    expect(existing.queues.has(NAME)).toBe(true);
    existing.queues.delete(NAME);
    expect(await log.read()).toEqual(["a"]);
    expect(existing.queues.has(NAME)).toBe(true);
  });

  test("that stands nowhere is named", async () => {
    const { aws, log } = await logOfOrders();
    aws.on("GetQueueUrl", () => ({ error: "QueueDoesNotExist" }));
    const error = {
      code: "not-found",
      message: expect.stringContaining(
        `as "${NAME}"; create it with declare: "create" at start, or with "anybroker topology create"`,
      ),
    };
    await expect(log.append("a")).rejects.toMatchObject(error);
    await expect(log.read()).rejects.toMatchObject(error);
    expect(aws.inputs("GetQueueUrl").map(({ QueueName }) => QueueName)).toEqual([NAME, NAME]);
  });

  test("says so where AWS does not answer, and what was appended may be there", async () => {
    const { aws, log, signals } = await logOfOrders({ requestTimeoutMs: 1_000 });
    aws.on("SendMessage", () => "cut");
    await expect(log.append("a")).rejects.toMatchObject({ code: "unreachable" });
    aws.on("ReceiveMessage", () => "cut");
    await expect(log.read()).rejects.toMatchObject({ code: "unreachable" });
    expect(signals).toContain("down");
  });
});
