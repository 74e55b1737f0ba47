import { expect, test } from "vitest";
import { MessagingError } from "../../../core/errors.ts";
import { Prng } from "../../simulation/prng.ts";
import { newRow, RelayWorld, type Step, states } from "./relay-world.ts";

const OPTIONS = { batchSize: 20, leaseMs: 6_000, pollMs: 500, storeTimeoutMs: 1_500, clean: false } as const;
const KEYS = 6;

/** Rows of several keys and without one, in the order of their insertion. */
function someRows(count: number) {
  return Array.from({ length: count }, (_, n) => {
    const key = n % (KEYS + 1) === KEYS ? undefined : `key${n % (KEYS + 1)}`;
    return newRow(`m${n}`, { key });
  });
}

/** What must hold whatever happened: none lost, none foreign, and the first copies of each key in order. */
function judge(
  world: RelayWorld,
  inserted: readonly { readonly id: string; readonly key: string | undefined }[],
): void {
  expect(new Set(world.ids)).toEqual(new Set(inserted.map(({ id }) => id)));
  const seen = new Set<string>();
  const firsts = world.stored.filter(({ id }) => !seen.has(id) && seen.add(id));
  for (let n = 0; n < KEYS; n++) {
    const of = ({ key }: { readonly key: string | undefined }): boolean => key === `key${n}`;
    expect(firsts.filter(of).map(({ id }) => id)).toEqual(inserted.filter(of).map(({ id }) => id));
  }
}

test.for<Step>(["claim", "claimed", "publish", "confirm", "mark", "marked"])(
  "a relay that dies at the step %s, again and again, loses nothing and keeps the order of each key",
  async (wanted) => {
    const world = new RelayWorld(`die at ${wanted}`);
    const rows = someRows(140);
    world.insert(...rows);
    let steps = 0;
    let deaths = 0;
    world.step = (process, step) => {
      if (step !== wanted || process.dead || deaths === 6 || ++steps % 7 !== 3) return;
      deaths++;
      process.kill();
      void world.relay(`after ${deaths}`, OPTIONS);
    };
    await world.relay("first", OPTIONS);
    await world.relay("beside it", OPTIONS);
    expect(await world.until(() => states(world.outbox).every((state) => state === "sent"))).toBe(true);
    expect(deaths).toBeGreaterThan(0);
    judge(world, rows);
  },
);

test.for(Array.from({ length: 30 }, (_, n) => `seed ${n}`))("four relays in random trouble: %s", async (seed) => {
  const world = new RelayWorld(seed);
  const random = new Prng(seed);
  world.publishMs = 2_000;
  const trouble = { ends: false };
  const chance = (probability: number): boolean => !trouble.ends && random.chance(probability);
  world.latencyMs = () => (chance(0.01) ? random.between(500, 9_000) : random.between(0, 20));
  world.judgeCall = () => (chance(0.04) ? random.pick(["before", "after", "silent"]) : "none");
  world.judge = () => {
    if (chance(0.02)) return new MessagingError("not-found", "no such place now");
    return chance(0.05) ? random.pick(["before", "after"]) : "none";
  };
  let relays = 0;
  let deaths = 0;
  const options = { ...OPTIONS, retry: { attempts: 50, delay: { firstMs: 50, maxMs: 2_000 } } };
  const begin = () => world.relay(`r${relays++}`, options);
  world.step = (process) => {
    if (process.dead || deaths > 12 || !chance(0.004)) return;
    deaths++;
    process.kill();
    void begin();
  };
  for (let n = 0; n < 4; n++) {
    const process = await begin();
    const flap = (): void => {
      if (process.dead) return;
      if (chance(0.5)) process.adapter.signals?.down(new MessagingError("unreachable", "gone"));
      else process.adapter.signals?.up();
      if (!trouble.ends) world.clock.schedule(flap, random.between(100, 5_000));
    };
    world.clock.schedule(flap, 1_000);
  }
  const rows = someRows(350);
  for (let from = 0; from < rows.length; from += 35) {
    world.clock.schedule(() => world.insert(...rows.slice(from, from + 35)), from * 100);
  }
  world.clock.schedule(() => {
    trouble.ends = true;
  }, 600_000);
  const isSent = (): boolean =>
    world.outbox.rows.length === rows.length && states(world.outbox).every((state) => state === "sent");
  expect(await world.until(isSent)).toBe(true);
  judge(world, rows);
});

test("a row that commits late with a lower position is sent", async () => {
  const world = new RelayWorld();
  const late = world.outbox.take();
  const { relay } = await world.relay("a", { clean: false });
  world.insert(newRow("second", { key: "k" }));
  await world.finish(relay.drain());
  expect(world.ids).toEqual(["second"]);
  world.outbox.commit({ ...newRow("first", { key: "k" }), position: late });
  await world.finish(relay.drain());
  expect(world.ids).toEqual(["second", "first"]);
});

test("the judge sees what is lost, and what is out of order", async () => {
  const world = new RelayWorld();
  const rows = someRows(20);
  const store = (...ids: string[]): void => {
    world.stored.length = 0;
    for (const id of ids) world.stored.push({ id, key: rows.find((row) => row.id === id)?.key, by: "a", at: 0 });
  };
  const all = rows.map(({ id }) => id);
  store(...all, "m0");
  judge(world, rows);
  store(...all.slice(1));
  expect(() => judge(world, rows)).toThrow();
  store("m7", ...all);
  expect(() => judge(world, rows)).toThrow();
});
