import fc from "fast-check";
import { expect, test } from "vitest";
import { type Action, simulate } from "./model.ts";

const share = fc.constantFrom(0, 5, 20, 35, 50, 65, 80, 100);
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 10, arbitrary: fc.record({ do: fc.constant("sell" as const), customer: fc.nat(7) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("share" as const), share, patient: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.nat(1_500) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("kill" as const), instance: fc.nat(1) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant("cut" as const),
      instance: fc.nat(1),
      ms: fc.integer({ min: 100, max: 6_000 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: "take-back" as const }) },
);

test("whatever is changed, killed and cut off in whichever order: nothing is lost, every key stays in order", {
  timeout: 600_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(action, { minLength: 10, maxLength: 80 }),
      fc.array(fc.nat(400), { minLength: 1, maxLength: 7 }),
      fc.array(fc.oneof(fc.constant(0), fc.nat(700)), { minLength: 1, maxLength: 5 }),
      async (actions, handlerMs, wireMs) => {
        const { finished, wrong } = await simulate(actions, handlerMs, wireMs);
        expect(finished).toBe(true);
        expect(wrong).toEqual([]);
      },
    ),
    {
      numRuns: Number(process.env.MIGRATION_RUNS ?? 60),
      ...(process.env.MIGRATION_SEED === undefined ? {} : { seed: Number(process.env.MIGRATION_SEED) }),
    },
  );
});

test("what is under way when keys begin to move is waited for", { timeout: 300_000 }, async () => {
  const bursts: Action[] = Array.from({ length: 60 }, (_, n) => [
    { do: "burst" as const, customer: n % 10 },
    { do: "wait" as const, ms: 23 },
  ]).flat();
  const patient = { do: "share", patient: true } as const;
  const script: Action[] = [...bursts, { ...patient, share: 100 }, ...bursts, { ...patient, share: 0 }];
  const { wrong, finished } = await simulate([...script, ...script, ...bursts], [0, 20], [0, 600, 5, 200]);
  expect({ wrong, finished }).toEqual({ wrong: [], finished: true });
});

test("an instance that is cut off from the state publishes nothing by an old one", { timeout: 300_000 }, async () => {
  const sales: Action[] = Array.from({ length: 80 }, (_, n) => [
    { do: "sell" as const, customer: n % 4 },
    { do: "sell" as const, customer: n % 4 },
    { do: "wait" as const, ms: 37 },
  ]).flat();
  const { wrong, sold, finished } = await simulate(
    [
      ...sales.slice(0, 30),
      { do: "cut", instance: 1, ms: 30_000 },
      { do: "share", share: 100, patient: true },
      ...sales,
    ],
    [0, 90, 20, 0, 150],
  );
  expect({ wrong, sold, finished }).toEqual({ wrong: [], sold: 360, finished: true });
});

test("a slow past on the old broker is waited for, and a quick rollback as well", { timeout: 300_000 }, async () => {
  const sales = (count: number): Action[] => Array.from({ length: count }, (_, n) => ({ do: "sell", customer: n % 5 }));
  const patient = { do: "share", patient: true } as const;
  const { wrong, sold, finished } = await simulate(
    [
      ...sales(60),
      { ...patient, share: 100 },
      ...sales(60),
      { do: "wait", ms: 500 },
      { ...patient, share: 0 },
      ...sales(30),
      { ...patient, share: 50 },
      ...sales(30),
      { ...patient, share: 20 },
      ...sales(30),
    ],
    [300, 700, 50],
  );
  expect({ wrong, sold, finished }).toEqual({ wrong: [], sold: 420, finished: true });
});
