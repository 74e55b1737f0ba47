import { type BrokerEvent, createBroker, queue } from "anybroker";
import { memory } from "anybroker/memory";
import { expect, test } from "vitest";

const orders = queue<number>("orders");
const WRONG: readonly (readonly [string, () => unknown])[] = [
  ["NaN", () => Number.NaN],
  ["undefined", () => undefined],
  ["Infinity", () => Number.POSITIVE_INFINITY],
  ["5", () => 5],
  ["-1", () => -1],
  [
    "nothing, and throws",
    () => {
      throw new Error("no randomness");
    },
  ],
];

test.each(WRONG)("a fraction() that gives %s holds no retry back, and is told once", async (_, fraction) => {
  const events: BrokerEvent[] = [];
  const broker = createBroker(memory(), {
    random: { fraction: fraction as () => number, bytes: () => new Uint8Array(1) },
    onEvent: (event) => void events.push(event),
  });
  let starts = 0;
  const fails = (): void => {
    starts++;
    throw new Error("no stock");
  };
  const consumer = broker.consume(orders, fails, { retry: { attempts: 3, delay: { firstMs: 1, maxMs: 5 } } });
  await broker.start();
  const { id } = await broker.send(orders, 1);
  expect(id).toMatch(/^[0-9a-f-]{36}$/);
  await expect.poll(() => consumer.status().deadLettered).toBe(1);
  expect(starts).toBe(3);
  const notices = events.filter((event) => event.type === "notice");
  expect(notices).toMatchObject([{ error: { code: "invalid", message: expect.stringContaining("{ random }") } }]);
  await broker.stop();
});
