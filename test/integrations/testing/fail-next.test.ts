import { deadLetter, MessagingError, queue, topic } from "anybroker";
import { testBroker } from "anybroker/testing";
import { describe, expect, test } from "vitest";

const jobs = queue<number>("jobs");
const events = topic<number>("events");

describe("a send that is to fail", () => {
  test("fails with the code that was asked for, and only the next ones to that destination do", async () => {
    await using kit = testBroker({ destinations: [jobs, queue("others")] });
    await kit.broker.start();
    const failure = kit.failNext({ sending: jobs, with: "overloaded", times: 2 });
    await kit.broker.send(queue<number>("others"), 0);
    await expect(kit.broker.send(jobs, 1)).rejects.toMatchObject({ code: "overloaded", name: "MessagingError" });
    expect(failure.left).toBe(1);
    await expect(kit.broker.send(jobs, 2)).rejects.toThrow('the send to queue "jobs" failed because of failNext()');
    await kit.broker.send(jobs, 3);
    expect(kit.sent(jobs).map(({ body }) => body)).toEqual([3]);
    expect(await kit.broker.depth(jobs)).toMatchObject({ ready: 1 });
  });

  test("fails alone among many", async () => {
    await using kit = testBroker({ destinations: [jobs] });
    await kit.broker.start();
    const chosen = new MessagingError("unauthorized", "not on Sundays");
    kit.failNext({ sending: jobs, with: chosen });
    const sent = kit.broker.sendMany(jobs, [{ body: 1 }, { body: 2 }, { body: 3 }]);
    await expect(sent).rejects.toMatchObject({
      code: "partly-failed",
      outcomes: [{ status: "failed", error: chosen }, { status: "confirmed" }, { status: "confirmed" }],
    });
    expect(kit.sent(jobs).map(({ body }) => body)).toEqual([2, 3]);
  });

  test("may be stored all the same", async () => {
    await using kit = testBroker();
    kit.broker.subscribe(events, "all", () => {});
    await kit.broker.start();
    kit.failNext({ sending: events, with: "unconfirmed", stored: true });
    kit.failNext({ sending: events, with: "unconfirmed" });
    await expect(kit.broker.publish(events, 1)).rejects.toMatchObject({ code: "unconfirmed" });
    await expect(kit.broker.publish(events, 2)).rejects.toMatchObject({ code: "unconfirmed" });
    await kit.idle();
    expect(kit.consumed(events, "all").map(({ body }) => body)).toEqual([1]);
    expect(kit.sent(events).map(({ body }) => body)).toEqual([1]);
  });

  test("is none that the engine sends on", async () => {
    await using kit = testBroker();
    kit.broker.consume(jobs, (n, { attempt }) => (n < 0 ? deadLetter("negative") : fail(attempt < 3)));
    await kit.broker.start();
    await kit.broker.sendMany(jobs, [{ body: 1 }, { body: -1 }]);
    const failure = kit.failNext({ sending: jobs });
    await kit.idle();
    expect(kit.consumed(jobs).map(({ attempt }) => attempt)).toEqual([3]);
    expect(kit.deadLetters()).toHaveLength(1);
    expect(failure.left).toBe(1);
  });
});

describe("an attempt that is to fail", () => {
  test("fails before the handler, or after it, and is tried again by the policy", async () => {
    await using kit = testBroker();
    const handled: string[] = [];
    kit.broker.consume(jobs, (n, { attempt }) => void handled.push(`${n}.${attempt}`));
    await kit.broker.start();
    kit.failNext({ handling: jobs });
    kit.failNext({ handling: jobs, when: "after", times: 2 });
    await kit.broker.send(jobs, 1);
    await kit.idle();
    expect(handled).toEqual(["1.2", "1.3", "1.4"]);
    expect(kit.consumed(jobs).map(({ attempt }) => attempt)).toEqual([4]);
  });

  test("is one of the subscription that was named, or of any", async () => {
    await using kit = testBroker({ consume: { retry: { attempts: 1 } } });
    for (const name of ["billing", "audit"]) kit.broker.subscribe(events, name, () => {});
    await kit.broker.start();
    kit.failNext({ handling: events, subscription: "audit", with: new RangeError("too far") });
    await kit.broker.publish(events, 1);
    await kit.idle();
    expect(kit.deadLetters(events, "billing")).toEqual([]);
    expect(kit.deadLetters(events, "audit")).toMatchObject([{ errorClass: "RangeError", error: "too far" }]);
    kit.failNext({ handling: events, times: 2 });
    await kit.broker.publish(events, 2);
    await kit.idle();
    expect(kit.deadLetters()).toHaveLength(3);
  });

  test("may have an outcome", async () => {
    await using kit = testBroker();
    kit.broker.consume(jobs, () => {});
    await kit.broker.start();
    kit.failNext({ handling: jobs, with: deadLetter("because") });
    await kit.broker.send(jobs, 1);
    await kit.idle();
    expect(kit.deadLetters(jobs)).toMatchObject([{ reason: "rejected", error: "because" }]);
  });
});

test("a failure can be taken back", async () => {
  await using kit = testBroker({ destinations: [jobs] });
  await kit.broker.start();
  const failure = kit.failNext({ sending: jobs });
  failure.cancel();
  await kit.broker.send(jobs, 1);
  expect(failure.left).toBe(0);
});

test.for([
  [{}, /handling/],
  [{ sending: "jobs" }, /takes a queue or a topic/],
  [{ sending: jobs, when: "after" }, /no option "when"/],
  [{ handling: jobs, times: 0 }, /times/],
  [{ handling: jobs, when: "now" }, /"before" or "after"/],
  [{ handling: events, subscription: "a b" }, /is no name/],
] as const)("%o is refused", ([failure, message]) => {
  expect(() => testBroker().failNext(failure as never)).toThrow(
    expect.objectContaining({ code: "invalid", message: expect.stringMatching(message) }),
  );
});

function fail(wanted: boolean): void {
  if (wanted) throw new Error("again");
}
