import { expect, test } from "vitest";
import { bodies, world } from "./world.ts";

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

test("the prefetch holds, live, and entries beyond it are read again", async () => {
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
  receiver.prefetch(0);
  const rest = inbox.held.splice(0);
  seen.push(...bodies(rest));
  await settle(receiver, rest);
  put("late");
  await pass(20_000);
  expect(inbox.held).toEqual([]);
  receiver.prefetch(100);
  expect(await until(() => inbox.held.length === 61 - seen.length)).toBe(true);
  expect([...seen, ...bodies(inbox.held)]).toEqual([...Array.from({ length: 60 }, (_, index) => `m-${index}`), "late"]);
  // Once to know what stands, once for the bodies, and the tombstones; not once more for each prefetch.
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
  expect(await settle(receiver, [inbox.drop(a)], "requeue")).toEqual(["settled"]);
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

test("nothing is delivered before the end of the log was reached, whatever is asked for meanwhile", async () => {
  const { put, receive, until, broker, pass } = world();
  const keys = Array.from({ length: 30 }, (_, index) => put(`m-${index}`).key as Buffer);
  for (const key of keys.slice(1)) broker.append({ key, value: undefined, headers: [] });
  broker.latency = () => 50;
  const { receiver, inbox } = await receive(0);
  for (let count = 1; count < 15; count++) {
    receiver.prefetch(count);
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
