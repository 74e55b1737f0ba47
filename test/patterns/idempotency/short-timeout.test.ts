import { queue } from "anybroker";
import { testBroker } from "anybroker/testing";
import { describe, expect, it } from "vitest";
import { postpone } from "../../../core/delivery.ts";
import { type IdempotencyEvent, idempotent, memoryIdempotencyStore } from "../../../patterns/idempotency/index.ts";
import { type Mood, MoodyStore } from "./world.ts";

const orders = queue<number>("orders");

/** A consumer whose handler has less time than the store may take to answer. */
async function begin(moods: MoodyStore["moods"], handler: (runs: number) => unknown = () => undefined) {
  const kit = testBroker({ destinations: [orders] });
  const store = new MoodyStore(memoryIdempotencyStore({ clock: kit.clock }));
  store.moods = moods;
  const events: IdempotencyEvent[] = [];
  const attempts: number[] = [];
  const once = idempotent(store, { clock: kit.clock, onEvent: (event) => void events.push(event) });
  kit.broker.consume(
    orders,
    (_, { attempt }) => {
      attempts.push(attempt);
      return handler(attempts.length) as undefined;
    },
    { timeoutMs: 1_000, retry: { attempts: 1 }, use: [once] },
  );
  await kit.broker.start();
  await kit.broker.send(orders, 1);
  const told = () => events.map(({ type }) => type);
  return { kit, store, attempts, told };
}

describe("idempotent, where the handler has less time than the store", () => {
  it.each<Mood>(["down", "silent"])("uses up no attempt while the store is %s", async (mood) => {
    const { kit, store, attempts, told } = await begin({ claim: mood });
    await kit.clock.advance(60_000);
    expect(told().filter((type) => type === "postponed").length).toBeGreaterThan(5);
    store.moods = {};
    await kit.clock.advance(60_000);
    expect(attempts).toEqual([1]);
    kit.expectNoDeadLetters();
    await kit.close();
  });

  it("acknowledges what was done, though the store does not take it down", async () => {
    const { kit, attempts, told } = await begin({ complete: "silent" });
    await kit.clock.advance(60_000);
    await kit.idle();
    expect(attempts).toEqual([1]);
    expect(told()).toContain("unrecorded");
    kit.expectNoDeadLetters();
    await kit.close();
  });

  it("postpones as the handler says, though the store does not take the claim back", async () => {
    const { kit, store, attempts } = await begin({ release: "silent" }, (runs) =>
      runs === 1 ? postpone({ afterMs: 60_000 }) : undefined,
    );
    await kit.clock.advance(50_000);
    store.moods = {};
    await kit.clock.advance(60_000);
    expect(attempts).toEqual([1, 1]);
    kit.expectNoDeadLetters();
    await kit.close();
  });
});
