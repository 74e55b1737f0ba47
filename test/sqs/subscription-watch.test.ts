import { type BrokerOptions, createBroker, queue, topic } from "anybroker";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { SqsAdapter } from "../../adapters/sqs/index.ts";
import { wanted } from "./declared.ts";
import { opened, unopened } from "./opened.ts";
import { ScriptedAccount } from "./scripted-account.ts";
import { entriesOf, type ScriptedAws } from "./scripted-aws.ts";

const placed = topic<{ n: number }>("placed");
const QUEUE = "placed_-_-billing";

/** A minute takes a moment here. */
beforeEach(() => {
  const real = globalThis.setTimeout;
  const shortened = (ms = 0): number => (ms >= 45_000 && ms <= 75_000 ? 20 : ms === 500 ? 5 : ms);
  vi.spyOn(globalThis, "setTimeout").mockImplementation(((work: () => void, ms?: number) =>
    real(work, shortened(ms))) as typeof setTimeout);
  return () => vi.restoreAllMocks();
});

/** An account where SNS takes events for topics that stand only, and says so. */
function accountOf(aws: ScriptedAws): ScriptedAccount {
  const account = new ScriptedAccount(aws);
  const isGone = (arn: unknown): boolean => !account.topics.has(String(arn).split(":").at(-1) ?? "");
  aws.on("PublishBatch", (input) =>
    isGone(input.TopicArn)
      ? { error: "NotFound", status: 404 }
      : { output: { Successful: entriesOf(input).map(({ Id }) => ({ Id })) } },
  );
  return account;
}

async function started(
  adapter: SqsAdapter,
  prepare: (broker: ReturnType<typeof createBroker>) => unknown,
  options: BrokerOptions = {},
) {
  const notices: string[] = [];
  const broker = createBroker(adapter, {
    ...options,
    onEvent: (event) => void (event.type === "notice" && notices.push(event.error.message)),
  });
  prepare(broker);
  onTestFinished(() => broker.stop({ timeoutMs: 1 }));
  await broker.start();
  return { broker, notices };
}

async function consuming(options: BrokerOptions = {}) {
  const { aws, adapter } = await unopened();
  const account = accountOf(aws);
  if (options.declare !== undefined) {
    const maker = await opened({ endpoint: aws.url });
    const topology = { ...wanted(), queues: [], mode: "create" } as const;
    expect(await maker.adapter.declare(topology)).toEqual([]);
  }
  let consumer: ReturnType<ReturnType<typeof createBroker>["subscribe"]> | undefined;
  const all = await started(
    adapter,
    (broker) => {
      consumer = broker.subscribe(placed, "billing", () => {}, { filter: "geo.us" });
    },
    options,
  );
  const state = () => consumer?.status();
  return { aws, account, state, ...all };
}

/** SNS removes the subscriptions of a topic with it. */
function removeTopic(account: ScriptedAccount): void {
  account.topics.delete("placed");
  account.subscriptions.length = 0;
}

const looks = (aws: ScriptedAws) => aws.inputs("ListSubscriptionsByTopic").length;

describe("a subscription that is gone from SNS", () => {
  test.for([true, false])(
    "is declared again where it was to be created, and said so (its topic too: %s)",
    async (all) => {
      const { account, notices, state } = await consuming();
      if (all) removeTopic(account);
      else account.subscriptions.length = 0;
      await vi.waitUntil(() => account.subscriptions.length === 1, 60_000);
      expect(account.subscriptions).toMatchObject([{ topic: "placed", queue: QUEUE }]);
      expect(account.topics.has("placed")).toBe(true);
      expect(notices).toEqual([expect.stringMatching(/subscription "billing".*was deleted on SNS; recreating it/)]);
      expect(state()).toMatchObject({ state: "running", error: undefined });
    },
  );

  test.for(["verify", "none"] as const)("stalls its consumer otherwise, until it is back (%s)", async (declare) => {
    const { account, state, aws } = await consuming({ declare });
    const [subscription] = account.subscriptions.splice(0);
    await vi.waitUntil(() => state()?.state === "stalled", 60_000);
    expect(state()?.error).toMatchObject({
      code: "not-found",
      message: expect.stringContaining("its queue is no longer subscribed to the topic on SNS, and gets no events"),
    });
    // Polls go on: what waits in the queue is handled.
    const polls = aws.inputs("ReceiveMessage").length;
    await vi.waitUntil(() => aws.inputs("ReceiveMessage").length > polls + 3, 60_000);
    expect(state()?.state).toBe("stalled");
    if (subscription !== undefined) account.subscriptions.push(subscription);
    await vi.waitUntil(() => state()?.state === "running", 60_000);
  });

  test("is not believed to be gone at the first look", async () => {
    const { aws, account, notices } = await consuming();
    aws.next("ListSubscriptionsByTopic", { output: {} }, { output: {} });
    const before = looks(aws);
    await vi.waitUntil(() => looks(aws) > before + 4, 60_000);
    expect(notices).toEqual([]);
    expect(account.subscriptions).toHaveLength(1);
  });

  test.for([
    ["verify", 1],
    ["none", 0],
  ] as const)("is looked for once where the right is missing (%s)", async ([declare, told]) => {
    const { aws, notices, state } = await consuming({ declare });
    aws.on("ListSubscriptionsByTopic", () => ({ error: "AuthorizationError", status: 403 }));
    const before = looks(aws);
    await vi.waitUntil(() => looks(aws) > before, 60_000);
    const polls = aws.inputs("ReceiveMessage").length;
    await vi.waitUntil(() => aws.inputs("ReceiveMessage").length > polls + 10, 60_000);
    expect(looks(aws)).toBe(before + 1);
    expect(notices).toHaveLength(told);
    expect(state()?.state).toBe("running");
  });
});

describe("a topic that is gone", () => {
  async function publishing() {
    const { aws, adapter } = await unopened();
    const account = accountOf(aws);
    const orders = queue("orders");
    const { broker, notices } = await started(adapter, () => {}, { destinations: [placed, orders] });
    await broker.publish(placed, { n: 1 });
    return { aws, account, broker, notices, orders };
  }
  const made = (aws: ScriptedAws) => aws.inputs("CreateTopic").length;

  test("is not made by a process that only publishes, which refuses events until its consumers made it", async () => {
    const { aws, account, broker, notices } = await publishing();
    removeTopic(account);
    for (let n = 0; n < 2; n++) {
      await expect(broker.publish(placed, { n })).rejects.toMatchObject({ code: "not-found" });
    }
    expect(made(aws)).toBe(1);
    expect(notices).toEqual([expect.stringMatching(/^topic "placed" was deleted, with all its subscriptions\./)]);
    const other = await unopened({ endpoint: aws.url });
    await started(other.adapter, (one) => one.subscribe(placed, "billing", () => {}));
    await broker.publish(placed, { n: 2 });
    expect(account.subscriptions).toHaveLength(1);
  });

  test("is not made by it with a queue that is gone, either", async () => {
    const { aws, account, broker, orders } = await publishing();
    removeTopic(account);
    account.queues.delete("orders");
    aws.next("SendMessage", { error: "QueueDoesNotExist" });
    await broker.send(orders, {});
    expect(account.queues.has("orders")).toBe(true);
    expect(made(aws)).toBe(1);
  });

  test("is made again by its consumer, also once another consumer was added", async () => {
    const { account, broker, aws } = await consuming();
    broker.subscribe(topic("other"), "billing", () => {});
    await vi.waitUntil(() => account.subscriptions.length === 2, 60_000);
    account.topics.delete("placed");
    account.subscriptions.splice(0, 1);
    await broker.publish(placed, { n: 1 });
    expect(account.subscriptions.map(({ queue: name }) => name)).toContain(QUEUE);
    expect(made(aws)).toBeGreaterThan(1);
  });
});
