import { expect, test } from "vitest";
import type { HeldRecord } from "../../../adapters/kafka/consuming/contract.ts";
import { deadLetterRecord } from "../../../adapters/kafka/dead-letters/dead-letter-record.ts";
import {
  countDeadLetters,
  receiveDeadLetters,
  TOMBSTONE_RETENTION_MS,
} from "../../../adapters/kafka/dead-letters/index.ts";
import type { LogRecord } from "../../../adapters/kafka/records/contract.ts";
import type { Receiver, SettleResult } from "../../../core/adapter.ts";
import { MessagingError } from "../../../core/errors.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { bodyOf, FakeDeadLetters, Inbox } from "./fake-dead-letters.ts";

const FOREVER = Number.POSITIVE_INFINITY;

function world(seed = "dead letters") {
  const time = new VirtualTime();
  const prng = new Prng(seed);
  const broker = new FakeDeadLetters(time);

  function put(id: string, body = id): LogRecord {
    const message = {
      id,
      key: "k",
      routingKey: undefined,
      headers: {},
      body: Buffer.from(body),
      contentType: "text/plain",
    };
    return broker.append(deadLetterRecord({ ...message, size: 0, priority: 0, delayMs: 0, ttlMs: undefined }, prng));
  }

  async function receive(window = 100, clock = new ProcessClock(time)) {
    const inbox = new Inbox();
    const opening = receiveDeadLetters(broker.host(clock, prng), window, inbox);
    return { receiver: await run(opening), inbox, clock };
  }

  /** Lets time go by until a promise is settled. */
  async function run<Result>(promise: Promise<Result>): Promise<Result> {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    promise.then(end, end);
    await time.until(() => isOver, FOREVER);
    return promise;
  }

  async function settle(receiver: Receiver, tokens: readonly HeldRecord[], action: "ack" | "release" = "ack") {
    return run(receiver.settle(tokens.map((token) => ({ token, action }))));
  }

  async function pass(ms: number): Promise<void> {
    let isOver = false;
    time.schedule(() => {
      isOver = true;
    }, ms);
    await time.until(() => isOver, FOREVER);
  }

  const count = () => run(countDeadLetters(broker.openLog(new ProcessClock(time))));
  const until = (condition: () => boolean) => time.until(condition, time.now + 1_000_000);
  return { time, prng, broker, put, receive, run, settle, pass, count, until };
}

const bodies = (records: readonly HeldRecord[]): string[] => records.map(bodyOf);

test("what stands is delivered in order, then what comes; what was removed is not", async () => {
  const { put, receive, settle, until, count, broker } = world();
  for (let index = 0; index < 10; index++) put(`m-${index}`);
  const first = await receive();
  expect(await until(() => first.inbox.held.length === 10)).toBe(true);
  expect(await settle(first.receiver, first.inbox.held.slice(0, 9))).toEqual(Array(9).fill("settled"));
  put("late");
  expect(await until(() => first.inbox.held.length === 11)).toBe(true);
  expect(bodies(first.inbox.held)).toEqual([...Array.from({ length: 10 }, (_, index) => `m-${index}`), "late"]);
  expect(await count()).toBe(2);
  await first.receiver.close();
  broker.compact();
  const second = await receive();
  expect(await until(() => second.inbox.held.length === 2)).toBe(true);
  expect(bodies(second.inbox.held)).toEqual(["m-9", "late"]);
  expect(second.inbox.held[0]?.record.headers["anybroker-key"]?.toString()).toBe("k");
  expect(second.inbox.held[0]?.record.key).toBeUndefined();
});

test("the window holds, live, and entries beyond it are read again", async () => {
  const { put, receive, settle, until, broker, pass } = world();
  for (let index = 0; index < 60; index++) put(`m-${index}`);
  const { receiver, inbox } = await receive(4);
  expect(await until(() => inbox.held.length === 4)).toBe(true);
  const seen: string[] = [];
  while (seen.length < 40) {
    const some = inbox.held.splice(0);
    seen.push(...bodies(some));
    await settle(receiver, some);
    expect(await until(() => inbox.held.length === 4)).toBe(true);
  }
  expect(inbox.most).toBe(4);
  receiver.window(0);
  const rest = inbox.held.splice(0);
  seen.push(...bodies(rest));
  await settle(receiver, rest);
  put("late");
  await pass(20_000);
  expect(inbox.held).toEqual([]);
  receiver.window(100);
  expect(await until(() => inbox.held.length === 61 - seen.length)).toBe(true);
  expect([...seen, ...bodies(inbox.held)]).toEqual([...Array.from({ length: 60 }, (_, index) => `m-${index}`), "late"]);
  // Once to know what stands, once for the bodies, and the tombstones; not once more for each window.
  expect(broker.recordsRead).toBeLessThan(61 * 2 + seen.length * 2 + 20);
});

test("what is released is delivered again, and stands", async () => {
  const { put, receive, settle, until, count } = world();
  put("a");
  put("b");
  const { receiver, inbox } = await receive(2);
  await until(() => inbox.held.length === 2);
  const [a] = inbox.held;
  if (a === undefined) throw new Error("nothing came");
  expect(await settle(receiver, [inbox.drop(a)], "release")).toEqual(["settled"]);
  expect(await until(() => inbox.held.length === 2)).toBe(true);
  expect(bodies(inbox.held)).toEqual(["b", "a"]);
  expect(await count()).toBe(2);
});

test("a second settlement is fenced, and so is an unknown one", async () => {
  const { put, receive, settle, until, pass } = world();
  put("a");
  const { receiver, inbox } = await receive();
  await until(() => inbox.held.length === 1);
  const all = [...inbox.held];
  expect(await receiver.extend(all)).toEqual([true]);
  expect(await settle(receiver, [...all, ...all])).toEqual(["settled", "fenced"]);
  expect(await settle(receiver, all)).toEqual(["fenced"]);
  expect(await receiver.extend(all)).toEqual([false]);
  await pass(20_000);
  expect(inbox.delivered).toHaveLength(1);
});

test("a message dead-lettered twice is one entry, and removed whole", async () => {
  const { put, receive, settle, until, count, pass } = world();
  put("a");
  put("b");
  put("a");
  put("a", "another body");
  expect(await count()).toBe(3);
  const { receiver, inbox } = await receive();
  await until(() => inbox.held.length === 3);
  expect(bodies(inbox.held)).toEqual(["b", "a", "another body"]);
  await settle(receiver, inbox.held.splice(0));
  expect(await count()).toBe(0);
  await pass(20_000);
  expect(inbox.held).toEqual([]);
});

test("a message that fails again while its entry is being removed is not removed with it", async () => {
  const { put, receive, settle, until, count, broker } = world();
  put("a");
  const { receiver, inbox } = await receive();
  await until(() => inbox.held.length === 1);
  // Its handler sent it back to the queue, where it failed at once.
  put("a");
  await settle(receiver, inbox.held.splice(0));
  broker.compact();
  expect(await count()).toBe(1);
  expect(await until(() => inbox.held.length === 1)).toBe(true);
  await settle(receiver, inbox.held.splice(0));
  expect(await count()).toBe(0);
});

test("a removal is confirmed before it is settled, however often it takes", async () => {
  const { put, receive, settle, until, count, broker } = world();
  put("a");
  put("b");
  const { receiver, inbox } = await receive();
  await until(() => inbox.held.length === 2);
  let tries = 0;
  broker.answer = () => {
    tries++;
    if (tries <= 3) return "stored-but-unknown";
    if (tries <= 6) return { status: "rejected", error: new MessagingError("rejected", "not enough replicas") };
    return { status: "confirmed" };
  };
  expect(await settle(receiver, inbox.held.splice(0))).toEqual(["settled", "settled"]);
  expect(tries).toBeGreaterThan(6);
  expect(inbox.stalls).toHaveLength(1);
  expect(await count()).toBe(0);
});

test("one receiver at a time has them; the next takes over", async () => {
  const { put, receive, settle, until, broker } = world();
  for (let index = 0; index < 5; index++) put(`m-${index}`);
  const first = await receive();
  const second = await receive();
  await until(() => first.inbox.held.length === 5);
  put("late");
  await until(() => first.inbox.held.length === 6);
  expect(second.inbox.delivered).toEqual([]);
  await settle(first.receiver, first.inbox.held.slice(0, 3));
  await first.receiver.close();
  expect(await until(() => second.inbox.held.length === 3)).toBe(true);
  expect(bodies(second.inbox.held)).toEqual(["m-3", "m-4", "late"]);
  await second.receiver.close();
  await until(() => broker.openLogs === 0);
  expect(broker.openLogs).toBe(0);
});

test("a session that ends loses what was held, and settles nothing of it", async () => {
  const { put, receive, settle, until, count, broker } = world();
  put("a");
  put("b");
  const first = await receive();
  const second = await receive();
  await until(() => first.inbox.held.length === 2);
  const stale = [...first.inbox.held];
  broker.expire();
  expect(first.inbox.lostOnes).toEqual(stale);
  expect(await settle(first.receiver, stale)).toEqual(["fenced", "fenced"]);
  expect(await until(() => second.inbox.held.length === 2)).toBe(true);
  expect(await count()).toBe(2);
});

test("a removal under way when the session ends is fenced if it is not confirmed", async () => {
  const { put, receive, until, broker, run } = world();
  put("a");
  const { receiver, inbox } = await receive();
  await until(() => inbox.held.length === 1);
  broker.answer = () => ({ status: "unknown", cause: new Error("no answer") });
  const settling = receiver.settle(inbox.held.map((token) => ({ token, action: "ack" })));
  await until(() => inbox.stalls.length === 1);
  broker.expire();
  expect(await run(settling)).toEqual(["fenced"]);
  expect(await until(() => inbox.delivered.length === 2)).toBe(true);
});

test("when the group hands over, what is held is asked for, and nothing more comes meanwhile", async () => {
  const { put, receive, settle, until, broker, run } = world();
  for (let index = 0; index < 6; index++) put(`m-${index}`);
  const first = await receive(3);
  const second = await receive();
  await until(() => first.inbox.held.length === 3);
  const handingOver = broker.handOver();
  expect(bodies(first.inbox.recalled)).toEqual(["m-0", "m-1", "m-2"]);
  const [running, ...unbegun] = first.inbox.held;
  if (running === undefined) throw new Error("nothing came");
  await settle(first.receiver, unbegun, "release");
  expect(second.inbox.delivered).toEqual([]);
  await settle(first.receiver, [running]);
  await run(handingOver);
  expect(await until(() => second.inbox.held.length === 5)).toBe(true);
  expect(first.inbox.delivered).toHaveLength(3);
  expect(bodies(second.inbox.held)).toEqual(["m-1", "m-2", "m-3", "m-4", "m-5"]);
});

test("what cannot be read is said and tried again", async () => {
  const { put, receive, until, broker } = world();
  put("a");
  const { inbox } = await receive();
  broker.failure = new MessagingError("unreachable", "no broker");
  expect(await until(() => inbox.stalls.length >= 3)).toBe(true);
  broker.failure = undefined;
  expect(await until(() => inbox.held.length === 1)).toBe(true);
  broker.failure = new MessagingError("unreachable", "no broker");
  put("b");
  await until(() => inbox.stalls.length >= 6);
  broker.failure = undefined;
  expect(await until(() => inbox.held.length === 2)).toBe(true);
});

test("a topic that is not there is refused", async () => {
  const { receive, broker } = world();
  broker.failure = new MessagingError("not-found", "no such topic");
  await expect(receive()).rejects.toMatchObject({ code: "not-found" });
  expect(broker.openLogs).toBe(0);
  expect(broker.owner).toBeUndefined();
});

test("a topic made anew is read from its beginning, and what was held is lost", async () => {
  const { put, receive, until, broker } = world();
  put("a");
  put("b");
  const { inbox } = await receive();
  await until(() => inbox.held.length === 2);
  broker.recreate();
  put("c");
  expect(await until(() => inbox.notices.length === 1)).toBe(true);
  expect(await until(() => inbox.held.length === 1)).toBe(true);
  expect(bodies(inbox.held)).toEqual(["c"]);
  expect(inbox.lostOnes).toHaveLength(2);
});

test("who could not read for long begins anew, for a tombstone may be gone", async () => {
  const { put, receive, until, broker, pass } = world();
  put("a");
  put("b");
  const { inbox } = await receive();
  await until(() => inbox.held.length === 2);
  broker.failure = new MessagingError("unreachable", "no broker");
  const removed = broker.records.shift();
  expect(removed?.value?.toString()).toBe("a");
  await pass(TOMBSTONE_RETENTION_MS);
  broker.failure = undefined;
  expect(await until(() => inbox.held.length === 1)).toBe(true);
  expect(bodies(inbox.held)).toEqual(["b"]);
  expect(inbox.lostOnes).toHaveLength(2);
});

test("a batch that cannot be read is passed over and told, where the next can be", async () => {
  const { put, receive, until, broker } = world();
  for (const id of ["a", "b", "c"]) put(id);
  const error = new MessagingError("invalid", "it is damaged");
  broker.unreadable = { offset: 1, error, resumeAt: 2 };
  const { inbox } = await receive();
  expect(await until(() => inbox.held.length === 2)).toBe(true);
  expect(bodies(inbox.held)).toEqual(["a", "c"]);
  expect(inbox.notices.map(({ code }) => code)).toEqual(["invalid"]);
});

test("a batch that another try may read is waited for", async () => {
  const { put, receive, until, broker } = world();
  for (const id of ["a", "b", "c"]) put(id);
  broker.unreadable = { offset: 1, error: new MessagingError("unsupported", "no codec"), resumeAt: undefined };
  const { inbox } = await receive();
  expect(await until(() => inbox.stalls.length >= 2)).toBe(true);
  expect(inbox.delivered).toEqual([]);
  broker.unreadable = undefined;
  expect(await until(() => inbox.held.length === 3)).toBe(true);
});

test("records of other senders are entries too", async () => {
  const { put, receive, settle, until, count, broker } = world();
  put("a");
  broker.append({ key: Buffer.from("theirs"), value: Buffer.from("1"), headers: [] });
  broker.append({ key: Buffer.from([0xff, 0xfe]), value: Buffer.from("2"), headers: [] });
  broker.append({ key: Buffer.from("theirs"), value: Buffer.from("3"), headers: [] });
  const { receiver, inbox } = await receive();
  await until(() => inbox.held.length === 3);
  expect(bodies(inbox.held)).toEqual(["a", "2", "3"]);
  expect(inbox.held[2]?.record.key?.toString()).toBe("theirs");
  await settle(receiver, inbox.held.splice(0));
  expect(await count()).toBe(0);
});

test("closing waits for removals, settles nothing else, and leaves no timer", async () => {
  const { put, receive, until, count, broker, run } = world();
  put("a");
  put("b");
  const { receiver, inbox, clock } = await receive();
  await until(() => inbox.held.length === 2);
  broker.latency = () => 500;
  const results: (readonly SettleResult[])[] = [];
  void receiver
    .settle(inbox.held.slice(0, 1).map((token) => ({ token, action: "ack" })))
    .then((one) => results.push(one));
  await run(receiver.close());
  expect(results).toEqual([["settled"]]);
  expect(clock.pending).toBe(0);
  expect(broker.openLogs).toBe(0);
  expect(broker.owner).toBeUndefined();
  expect(inbox.lostOnes).toEqual([]);
  await receiver.close();
  expect(await count()).toBe(1);
});

test("closing does not wait forever for a removal", async () => {
  const { put, receive, until, broker, run, pass } = world();
  put("a");
  const { receiver, inbox, clock } = await receive();
  await until(() => inbox.held.length === 1);
  broker.answer = () => ({ status: "unknown", cause: new Error("no answer") });
  broker.latency = () => 8_000;
  const settling = receiver.settle(inbox.held.map((token) => ({ token, action: "ack" })));
  await run(receiver.close());
  expect(await run(settling)).toEqual(["fenced"]);
  await pass(3_050);
  expect(clock.pending).toBe(0);
});

test("nothing is delivered before the end of the log was reached, whatever is asked for meanwhile", async () => {
  const { put, receive, until, broker, pass } = world();
  const keys = Array.from({ length: 30 }, (_, index) => put(`m-${index}`).key as Buffer);
  for (const key of keys.slice(1)) broker.append({ key, value: undefined, headers: [] });
  broker.latency = () => 50;
  const { receiver, inbox } = await receive(0);
  for (let count = 1; count < 15; count++) {
    receiver.window(count);
    await pass(50);
  }
  expect(await until(() => inbox.held.length === 1)).toBe(true);
  await pass(20_000);
  expect(bodies(inbox.delivered)).toEqual(["m-0"]);
});

test("what is being removed counts as unsettled", async () => {
  const { put, receive, until, broker, pass, run } = world();
  for (let index = 0; index < 6; index++) put(`m-${index}`);
  const { receiver, inbox } = await receive(2);
  await until(() => inbox.held.length === 2);
  broker.latency = () => 1_000;
  const settling = receiver.settle(inbox.held.splice(0).map((token) => ({ token, action: "ack" })));
  await pass(900);
  expect(inbox.delivered).toHaveLength(2);
  await run(settling);
  expect(await until(() => inbox.held.length === 2)).toBe(true);
});

test("what is being looked up when the group hands over is left to the next", async () => {
  const { put, receive, settle, until, broker, run, pass } = world();
  for (let index = 0; index < 9; index++) put(`m-${index}`);
  const first = await receive(1);
  const second = await receive();
  await until(() => first.inbox.held.length === 1);
  broker.latency = () => 300;
  first.receiver.window(9);
  const handingOver = broker.handOver();
  await pass(1_000);
  const held = first.inbox.held.splice(0);
  expect(first.inbox.recalled).toEqual(held);
  await settle(first.receiver, held, "release");
  await run(handingOver);
  expect(await until(() => second.inbox.held.length === 9)).toBe(true);
  expect(first.inbox.lostOnes).toEqual([]);
});
