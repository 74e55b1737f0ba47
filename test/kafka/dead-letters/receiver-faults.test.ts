import { expect, test } from "vitest";
import { TOMBSTONE_RETENTION_MS } from "../../../adapters/kafka/dead-letters/records.ts";
import type { SettleResult } from "../../../core/adapter.ts";
import { MessagingError } from "../../../core/errors.ts";
import { bodies, world } from "./world.ts";

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
    if (tries <= 6) return { status: "rejected", error: new MessagingError("refused", "not enough replicas") };
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
  expect(bodies(first.inbox.revoked)).toEqual(["m-0", "m-1", "m-2"]);
  const [running, ...unbegun] = first.inbox.held;
  if (running === undefined) throw new Error("nothing came");
  await settle(first.receiver, unbegun, "requeue");
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

test("what is being looked up when the group hands over is left to the next", async () => {
  const { put, receive, settle, until, broker, run, pass } = world();
  for (let index = 0; index < 9; index++) put(`m-${index}`);
  const first = await receive(1);
  const second = await receive();
  await until(() => first.inbox.held.length === 1);
  broker.latency = () => 300;
  first.receiver.prefetch(9);
  const handingOver = broker.handOver();
  await pass(1_000);
  const held = first.inbox.held.splice(0);
  expect(first.inbox.revoked).toEqual(held);
  await settle(first.receiver, held, "requeue");
  await run(handingOver);
  expect(await until(() => second.inbox.held.length === 9)).toBe(true);
  expect(first.inbox.lostOnes).toEqual([]);
});
