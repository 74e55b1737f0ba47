import { type Adapter, queue, topic } from "anybroker";
import { testBroker } from "anybroker/testing";
import { expect, test } from "vitest";

const MESSAGES = 150;
const jobs = queue<number>("jobs");
const steps = queue<number>("steps", { ordered: true, key: (n) => String(n % 5) });
const events = topic<number>("events");

/** Many messages, of which some fail, are delayed or beget others: after idle, nothing is left and nothing was missed. */
export function testLoadOnBroker<Native>(adapter: () => Adapter<Native>): void {
  test("after idle, each of many messages is consumed or dead, once", async () => {
    const retry = { attempts: 3, delay: { firstMs: 20, maxMs: 40 } };
    await using kit = testBroker({ adapter, consume: { retry }, idleTimeoutMs: 120_000 });
    const failing = (n: number, attempt: number): void => {
      if (n % 10 === 9 || (n % 7 === 3 && attempt === 1)) throw new Error("again");
    };
    kit.broker.consume(jobs, async (n, { attempt }) => {
      failing(n, attempt);
      await kit.broker.publish(events, n);
    });
    kit.broker.subscribe(events, "steps", async (n) => void (await kit.broker.send(steps, n)));
    kit.broker.consume(steps, (n, { attempt }) => failing(n + 1, attempt));
    await kit.broker.start();
    const entries = Array.from({ length: MESSAGES }, (_, body) => ({
      body,
      options: { delayMs: body % 11 === 0 ? 50 : 0 },
    }));
    await kit.broker.sendMany(jobs, entries);
    await kit.idle();

    const numbers = entries.map(({ body }) => body);
    const bodies = (messages: readonly { readonly body: unknown }[]) =>
      [...new Set(messages.map(({ body }) => body as number))].sort((one, other) => one - other);
    const passed = numbers.filter((n) => n % 10 !== 9);
    expect(bodies(kit.consumed(jobs))).toEqual(passed);
    expect(bodies(kit.deadLetters(jobs))).toEqual(numbers.filter((n) => n % 10 === 9));
    expect(bodies(kit.consumed(events, "steps"))).toEqual(passed);
    expect(bodies(kit.consumed(steps))).toEqual(passed.filter((n) => n % 10 !== 8));
    expect(bodies(kit.deadLetters(steps))).toEqual(passed.filter((n) => n % 10 === 8));
  });
}
