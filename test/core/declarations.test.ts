import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addressName } from "../../core/address.ts";
import { checkFilter, checkName, checkRoutingKey } from "../../core/checks.ts";
import { createBroker } from "../../core/create-broker.ts";
import { queue, subscription, topic } from "../../core/destination.ts";
import { isMessagingError, type MessagingError } from "../../core/errors.ts";
import { capabilities, LIMITS, RecordingAdapter } from "./recording-adapter.ts";

async function problemsOf(starting: Promise<void>): Promise<readonly MessagingError[]> {
  try {
    await starting;
  } catch (error) {
    if (isMessagingError(error, "start-failed")) return error.problems;
    throw error;
  }
  return [];
}

describe("declarations", () => {
  it("refuse one name with two meanings", () => {
    const twice = [
      [queue("a"), queue("a", { ordered: true })],
      [queue("a"), queue("a", { priorities: 2 })],
      [queue("a", { ttlMs: 1 }), queue("a", { ttlMs: 2 })],
      [topic("a"), topic("a", { ordered: true })],
      [subscription(topic("a"), "s"), subscription(topic("a"), "s", { filter: "x" })],
      [subscription(topic("a"), "s"), subscription(topic("a"), "s", { from: "earliest" })],
    ] as const;
    for (const destinations of twice) {
      expect(() => createBroker(new RecordingAdapter(), { destinations })).toThrow(
        expect.objectContaining({ code: "conflict" }),
      );
    }
    const same = [queue("a"), queue("a"), topic("t"), subscription(topic("t"), "s"), subscription(topic("t"), "s")];
    createBroker(new RecordingAdapter(), { destinations: same });
  });

  it("refuse two things that would be one on the broker", async () => {
    const colliding = [
      [queue("a.b"), queue("a_b")],
      [queue("a"), topic("a")],
    ];
    for (const destinations of colliding) {
      const adapter = new RecordingAdapter();
      adapter.physical = (address) => addressName(address).replaceAll(".", "_");
      const problems = await problemsOf(createBroker(adapter, { destinations }).start());
      expect(problems.length).toBeGreaterThan(0);
      expect(problems.every(({ code }) => code === "conflict")).toBe(true);
      expect(adapter.signals, "nothing was opened").toBeUndefined();
    }
  });

  it("start where the broker tells them apart, and send copies to their own place", async () => {
    const adapter = new RecordingAdapter();
    adapter.physical = (address) => JSON.stringify(address);
    const broker = createBroker(adapter);
    const handle = () => {
      throw new Error("no");
    };
    broker.subscribe(topic("a"), "b.c", handle, { retry: { attempts: 1 } });
    broker.subscribe(topic("a.b"), "c", handle, { retry: { attempts: 1 } });
    await broker.start();
    for (const { from, sink } of adapter.opened.filter(({ from }) => from.kind === "subscription")) {
      adapter.handed.length = 0;
      const none = {
        key: undefined,
        routingKey: undefined,
        contentType: undefined,
        native: undefined,
        redeliveries: 0,
      };
      sink.deliver([{ token: 1, id: "1", headers: Object.create(null), body: Buffer.from("{}"), ...none }]);
      while (adapter.handed.length === 0) await new Promise((resolve) => setImmediate(resolve));
      expect(adapter.handed[0]?.to).toEqual({ kind: "dead-letters", of: from });
    }
    await broker.stop();
  });

  it("report everything that is wrong at once", async () => {
    const bare = capabilities("order", "ttl", "priority", "rewind", "routingFilter", "durable", "transactions");
    const adapter = new RecordingAdapter(LIMITS, bare);
    const broker = createBroker(adapter, {
      require: ["transactions"],
      destinations: [
        queue("one", { ordered: true, ttlMs: 5 }),
        queue("two", { priorities: 2, durable: true }),
        subscription(topic("three"), "s", { filter: "a.*", from: "earliest" }),
        queue("same"),
        topic("same"),
      ],
    });
    const problems = await problemsOf(broker.start());
    const said = problems.map(({ code, message }) => `${code} ${message}`).join("\n");
    const named = ["transactions", "order", "ttl", "priority", "durable", "routingFilter", "rewind"];
    for (const name of named) expect(said).toContain(`asks for ${name}`);
    expect(problems.filter(({ code }) => code === "unsupported")).toHaveLength(named.length);
    expect(problems.filter(({ code }) => code === "conflict")).toHaveLength(1);
    expect(broker.status()).toMatchObject({ state: "stopped", connected: false });
  });
});

describe("names", () => {
  const word = fc.stringMatching(/^[A-Za-z0-9_-]{1,10}$/);

  it("takes what every broker can carry and nothing else", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_-]{0,20}(\.[A-Za-z0-9_-]{1,20}){0,3}$/), (name) => {
        fc.pre(!name.endsWith(".dlq") && !name.endsWith(".quarantine"));
        checkName("queue", name);
        expect(addressName({ kind: "queue", name })).toBe(name);
      }),
    );
    const wrong = [
      "",
      ".a",
      "a.",
      "a..b",
      "-a",
      "_a",
      "a b",
      "a/b",
      "ä",
      "a\n",
      "a".repeat(101),
      "a.dlq",
      "a.quarantine",
      7,
      null,
      undefined,
    ];
    for (const name of wrong) {
      expect(() => checkName("queue", name), String(name)).toThrow(expect.objectContaining({ code: "invalid" }));
    }
    // Behind the name of its topic a subscription's would be an ending.
    for (const name of ["dlq", "quarantine"]) {
      checkName("queue", name);
      expect(() => checkName("subscription", name)).toThrow(expect.objectContaining({ code: "invalid" }));
    }
  });

  it("tells filters from routing keys", () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 8 }), (words) => {
        const key = words.join(".");
        fc.pre(key.length <= 100);
        checkRoutingKey("here", key);
        checkFilter("here", key);
        checkFilter("here", [...words.slice(1), "*"].join("."));
        checkFilter("here", [...words.slice(1), "#"].join("."));
      }),
    );
    for (const key of ["", ".", "a.", ".a", "a..b", "a.*", "#", "a b", "ä", "a".repeat(101)]) {
      expect(() => checkRoutingKey("here", key), key).toThrow(expect.objectContaining({ code: "invalid" }));
    }
    for (const filter of ["", "a.", "a..b", "a*", "#a", "**", "a b", "a".repeat(101)]) {
      expect(() => checkFilter("here", filter), filter).toThrow(expect.objectContaining({ code: "invalid" }));
    }
  });

  it("refuses options that there are not", () => {
    const wrong: (() => unknown)[] = [
      () => queue("a", { order: true } as never),
      () => queue("a", { ttlMs: 0 }),
      () => queue("a", { priorities: 0 }),
      () => queue("a", { priorities: 33 }),
      () => queue("a", { schema: {} as never }),
      () => queue("a", { codec: {} as never }),
      () => topic("a", { whenUnroutable: "drop" as never }),
      () => topic("a", { priorities: 2 } as never),
      () => subscription(topic("a"), "s", { filter: "a..b" }),
      () => subscription(topic("a"), "s", { from: new Date(Number.NaN) }),
      () => createBroker(new RecordingAdapter(), { publish: { maxMessages: 0 } }),
      () => createBroker(new RecordingAdapter(), { publish: { whenFull: "drop" as never } }),
      () => createBroker(new RecordingAdapter(), { consume: { concurrency: 0 } }),
      () => createBroker(new RecordingAdapter(), { consume: { retry: { attempts: 0 } } }),
      () => createBroker(new RecordingAdapter(), { require: ["speed" as never] }),
      () => createBroker(new RecordingAdapter(), { declare: "maybe" as never }),
      () => createBroker(new RecordingAdapter(), { retries: 5 } as never),
      () => createBroker(new RecordingAdapter()).consume(queue("a"), undefined as never),
      () => createBroker(new RecordingAdapter()).consume(topic("a") as never, () => {}),
      () => createBroker(new RecordingAdapter()).consume(queue("a"), () => {}, { concurrency: 1.5 }),
      () => createBroker(new RecordingAdapter()).consume(queue("a"), () => {}, { use: [7 as never] }),
    ];
    for (const [index, make] of wrong.entries()) {
      expect(make, `number ${index}`).toThrow(expect.objectContaining({ code: "invalid" }));
    }
  });
});
