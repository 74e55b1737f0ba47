import { describe, expect, it } from "vitest";
import { deadLetter, postpone } from "../../core/delivery.ts";
import { queue } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { HEADER } from "../../core/system-headers.ts";
import { incoming, settled } from "./recording-adapter.ts";
import { headers, refusingWorld } from "./refusing-world.ts";

const work = queue<unknown>("work");
const rejected = () => deadLetter("not this one");

describe("a dead letter that is refused for its size", () => {
  it("is made without the headers that are over the limits, and says which", async () => {
    const { adapter, broker, opened, sentTo, finish } = refusingWorld();
    const consumer = broker.consume(work, rejected);
    await finish(broker.start());
    adapter.refusal = (_, message) =>
      "huge" in message.headers ? new MessagingError("too-large", "refused by the test") : undefined;
    const given = headers({ small: "kept", huge: "x".repeat(5_000), "also small": "kept" });
    opened().sink.deliver([incoming("1", { key: "k".repeat(3_000), headers: given, body: Buffer.from("[1]") })]);
    await settled();
    const [, reduced, ...more] = sentTo("dead-letters");
    expect(more).toEqual([]);
    expect(reduced).toMatchObject({ id: "1", key: undefined, body: Buffer.from("[1]") });
    expect(reduced?.headers).toMatchObject({
      small: "kept",
      "also small": "kept",
      [HEADER.deadReason]: "rejected",
      [HEADER.deadError]: "not this one",
      [HEADER.cut]: "huge (5004 bytes), the key (3000 bytes)",
    });
    expect(reduced?.headers).not.toHaveProperty("huge");
    expect(opened().settled).toEqual([{ token: "1", action: "ack" }]);
    expect(consumer.status()).toMatchObject({ deadLettered: 1, parked: 0, unsettled: 0, state: "running" });
    await finish(broker.stop());
  });

  it("keeps of the headers as many as there may be", async () => {
    const { adapter, broker, opened, sentTo, finish } = refusingWorld();
    broker.consume(work, rejected);
    await finish(broker.start());
    adapter.refusal = (_, { headers: sent }) =>
      Object.keys(sent).filter((name) => name.startsWith("n")).length > 3
        ? new MessagingError("too-large", "refused by the test")
        : undefined;
    const many = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`n${index}`, "1"]));
    opened().sink.deliver([incoming("1", { headers: headers(many) })]);
    await settled();
    const kept = sentTo("dead-letters")[1]?.headers ?? {};
    expect(Object.keys(kept).filter((name) => name.startsWith("n"))).toEqual(["n0", "n1", "n2"]);
    expect(kept[HEADER.cut]).toMatch(/^n3 \(3 bytes\), n4 .*, and \d+ more$/);
    expect(kept[HEADER.cut]?.length).toBeLessThanOrEqual(1_024);
    await finish(broker.stop());
  });

  it("is made as small as it can be where that is still too large", async () => {
    const { adapter, broker, opened, sentTo, finish } = refusingWorld();
    broker.consume(work, () => deadLetter("because ".repeat(100)));
    await finish(broker.start());
    adapter.refusal = (_, { size }) =>
      size > 700 ? new MessagingError("too-large", "refused by the test") : undefined;
    opened().sink.deliver([
      incoming("1", { headers: headers({ tenant: "acme" }), body: Buffer.from("1".repeat(200)) }),
    ]);
    await settled();
    const barest = sentTo("dead-letters").at(-1);
    expect(barest?.size).toBeLessThanOrEqual(700);
    expect(barest?.body).toHaveLength(200);
    expect(barest?.headers).toMatchObject({ [HEADER.deadReason]: "rejected", [HEADER.cut]: "tenant" });
    expect(barest?.headers[HEADER.deadError]).toBe("because ".repeat(8));
    expect(opened().settled).toEqual([{ token: "1", action: "ack" }]);
    await finish(broker.stop());
  });

  it("is left to the broker's own means where the body itself does not fit", async () => {
    const { adapter, broker, refuse, opened, finish, eventsOf } = refusingWorld();
    const moved: unknown[] = [];
    adapter.moves = (token, { id, headers: { [HEADER.deadReason]: reason } }) => {
      moved.push({ token, id, reason });
      return { status: "settled" };
    };
    const consumer = broker.consume(work, rejected);
    await finish(broker.start());
    refuse("dead-letters", "too-large");
    opened().sink.deliver([incoming("1")]);
    await settled();
    expect(moved).toEqual([{ token: "1", id: "1", reason: "rejected" }]);
    expect(opened().settled).toEqual([]);
    expect(eventsOf("dead-lettered")).toHaveLength(1);
    expect(consumer.status()).toMatchObject({ deadLettered: 1, parked: 0, unsettled: 0, state: "running" });
    await finish(broker.stop());
  });

  it("is parked where these refuse it too, and tried again where it is not known what became of it", async () => {
    const { adapter, broker, refuse, opened, until, finish, eventsOf } = refusingWorld();
    let unknowns = 2;
    adapter.moves = (token) => {
      if (token === "2") return { status: "refused", error: new MessagingError("unauthorized", "no right") };
      return unknowns-- > 0 ? { status: "unknown", cause: new Error("no answer") } : { status: "settled" };
    };
    const consumer = broker.consume(work, rejected);
    await finish(broker.start());
    refuse("dead-letters", "too-large");
    opened().sink.deliver([incoming("1"), incoming("2"), incoming("3", { token: "3" })]);
    await until("the first and the third to be moved", () => consumer.status().deadLettered === 2);
    expect(consumer.status()).toMatchObject({ parked: 1, unsettled: 1, state: "stalled" });
    expect(consumer.status().error).toMatchObject({ code: "unauthorized" });
    expect(eventsOf("parked")).toMatchObject([{ id: "2", reason: "rejected" }]);
    await finish(broker.stop());
    expect(opened().settled).toEqual([{ token: "2", action: "requeue" }]);
  });
});

describe("a retry whose copy is refused", () => {
  it("rests here, beside the prefetch and no earlier than asked for, and all attempts are made", async () => {
    const { time, broker, refuse, opened, until, finish, sentTo } = refusingWorld();
    const starts: { readonly id: string; readonly at: number; readonly attempt: number }[] = [];
    const consumer = broker.consume(
      work,
      (_, { id, attempt }) => {
        starts.push({ id, at: time.now, attempt });
        if (id === "good") return;
        throw new Error("no");
      },
      { concurrency: 1, prefetch: { messages: 2 }, retry: { attempts: 3, delay: { firstMs: 1_000, jitter: 0 } } },
    );
    await finish(broker.start());
    refuse("queue", "too-large");
    opened().sink.deliver([incoming("1"), incoming("2")]);
    await settled();
    expect(consumer.status()).toMatchObject({ waiting: 2, unsettled: 2, parked: 0, state: "running" });
    expect(opened().prefetch).toBe(4);
    opened().sink.deliver([incoming("good")]);
    await until("both to be dead", () => consumer.status().deadLettered === 2);
    const ofFirst = starts.filter(({ id }) => id === "1");
    expect(ofFirst.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(ofFirst.map(({ at }) => at)).toEqual([0, 1_000, 3_000]);
    expect(starts.find(({ id }) => id === "good")?.at).toBe(0);
    expect(sentTo("dead-letters").map(({ headers: sent }) => sent[HEADER.deadAttempts])).toEqual(["3", "3"]);
    expect(opened().prefetch).toBe(2);
    await finish(broker.stop());
  });

  it("uses up no attempt where it was postponed", async () => {
    const { broker, refuse, opened, until, finish } = refusingWorld();
    const attempts: number[] = [];
    const consumer = broker.consume(
      work,
      (_, { attempt }) => {
        attempts.push(attempt);
        return attempts.length < 4 ? postpone() : undefined;
      },
      { retry: { attempts: 2 } },
    );
    await finish(broker.start());
    refuse("queue", "unauthorized");
    opened().sink.deliver([incoming("1")]);
    await until("it to be handled", () => consumer.status().succeeded === 1);
    expect(attempts).toEqual([1, 1, 1, 1]);
    await finish(broker.stop());
  });
});

describe("what cannot be read", () => {
  it("goes to the dead letters by the broker's own means, without a handler or a copy", async () => {
    const { adapter, broker, opened, sentTo, finish, eventsOf } = refusingWorld();
    const moved: unknown[] = [];
    adapter.moves = (token, letter) => {
      moved.push({ token, reason: letter.headers[HEADER.deadReason], error: letter.headers[HEADER.deadError] });
      return { status: "settled" };
    };
    let started = 0;
    const consumer = broker.consume(work, () => void started++);
    await finish(broker.start());
    const unreadable = new MessagingError("unsupported", "there is no codec for it");
    opened().sink.deliver([incoming("1", { body: Buffer.alloc(0), unreadable })]);
    await settled();
    expect(moved).toEqual([{ token: "1", reason: "invalid", error: "there is no codec for it" }]);
    expect(started).toBe(0);
    expect(sentTo("dead-letters")).toEqual([]);
    expect(eventsOf("dead-lettered")).toMatchObject([{ id: "1", reason: "invalid", error: unreadable }]);
    expect(consumer.status()).toMatchObject({ unsettled: 0, deadLettered: 1 });
    await finish(broker.stop());
  });
});
