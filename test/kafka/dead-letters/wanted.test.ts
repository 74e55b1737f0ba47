import { expect, test } from "vitest";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import { receiveDeadLetters } from "../../../adapters/kafka/dead-letters/receiver.ts";
import { browseDeadLetters } from "../../../adapters/kafka/watching.ts";
import { ProcessClock } from "../../simulation/virtual-time.ts";
import { bodyOf, Inbox } from "./inbox.ts";
import { bodies, world } from "./world.ts";

test("what is not wanted is passed over, takes no place in the prefetch, and stands", async () => {
  const { put, broker, prng, time, run, settle, until, count, receive } = world();
  for (let index = 0; index < 30; index++) put(`m-${index}`);
  const asked: string[] = [];
  const wanted = (held: DeliveredRecord): boolean => {
    asked.push(bodyOf(held));
    return /[79]$/.test(bodyOf(held));
  };
  const inbox = new Inbox();
  const host = { ...broker.host(new ProcessClock(time), prng), wanted };
  const receiver = await run(receiveDeadLetters(host, 2, inbox));
  expect(await until(() => inbox.held.length === 2)).toBe(true);
  expect(bodies(inbox.held)).toEqual(["m-7", "m-9"]);
  const seen: string[] = [];
  while (seen.length < 6) {
    expect(await until(() => inbox.held.length > 0)).toBe(true);
    const some = inbox.held.splice(0);
    seen.push(...bodies(some));
    await settle(receiver, some);
  }
  expect(seen).toEqual(["m-7", "m-9", "m-17", "m-19", "m-27", "m-29"]);
  // What comes later is looked at too.
  put("late-9");
  put("late-0");
  expect(await until(() => inbox.held.length === 1)).toBe(true);
  expect(bodies(inbox.held)).toEqual(["late-9"]);
  expect(inbox.most).toBeLessThanOrEqual(2);
  expect(new Set(asked).size).toBe(32);
  expect(await count()).toBe(26);
  await receiver.close();
  // The next one gets all of it.
  const next = await receive();
  expect(await until(() => next.inbox.held.length === 26)).toBe(true);
});

test("a look has everything that stands, also what a receiver holds, in order and in batches", async () => {
  const { put, broker, time, run, settle, until, receive } = world();
  for (let index = 0; index < 600; index++) put(`m-${index}`);
  const { receiver, inbox } = await receive(10);
  expect(await until(() => inbox.held.length === 10)).toBe(true);
  await settle(receiver, inbox.held.splice(0, 3));
  const found: string[] = [];
  const sizes: number[] = [];
  const looking = browseDeadLetters(broker.openLog(new ProcessClock(time)), () => {});
  for (let next = await run(looking.next()); !next.done; next = await run(looking.next())) {
    sizes.push(next.value.length);
    for (const { body, token, key } of next.value) {
      expect([token, key]).toEqual([undefined, "k"]);
      found.push(Buffer.from(body).toString());
    }
  }
  expect(found).toEqual(Array.from({ length: 597 }, (_, index) => `m-${index + 3}`));
  expect(Math.max(...sizes)).toBe(256);
});
