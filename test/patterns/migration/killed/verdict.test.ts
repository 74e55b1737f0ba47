import { expect, test } from "vitest";
import { catalog } from "../catalog.ts";
import type { Effect, Sale } from "./books.ts";
import { type Evidence, feeds, offences } from "./verdict.ts";

const shop = catalog();
const KILLED = "north 1";
const ALIVE = "north 2";

/** Two messages of one customer to everything, each handled once. */
function sound(): Evidence & { sales: Sale[]; effects: Effect[] } {
  const sales: Sale[] = [];
  const effects: Effect[] = [];
  for (const n of [0, 1]) {
    for (const { name: destination } of [shop.orders, shop.emails, shop.placed]) {
      const seq = sales.length + 1;
      sales.push({ seq, destination, id: `ada-${n}`, customer: "ada", n, worker: KILLED, accepted: 1 });
    }
    for (const { source } of feeds(shop)) {
      effects.push({ source, id: `ada-${n}`, customer: "ada", n, worker: KILLED, completed: 1 });
    }
  }
  const none = { count: 0, ids: [] };
  const sources = feeds(shop).map(({ source }) => ({
    source,
    published: 2,
    handled: 2,
    missing: none,
    dead: none,
    unexpected: none,
    remaining: { from: 0, to: 0 },
  }));
  const report = { name: "migration", at: "", verdict: "equal", sources } as const;
  return { sales, effects, killed: new Set([KILLED]), unjournaled: 0, report };
}

test("what was sent, handled once and in order is right", () => {
  expect(offences(shop, sound())).toEqual([]);
});

test("a message that was accepted and not handled is lost", () => {
  const evidence = sound();
  evidence.effects.splice(-1, 1);
  expect(offences(shop, evidence)).toContain("lost: placed..shipping ada-1, accepted by north 1");
});

test("a second effect is excused by a kill before the first was noted, and by nothing else", () => {
  const evidence = sound();
  const first = evidence.effects[0] as Effect;
  const again = { ...first, worker: ALIVE };
  expect(offences(shop, { ...evidence, effects: [...evidence.effects, again] })).toEqual([
    "repeated: orders ada-0, by north 1 and by north 2",
  ]);
  const begun = [{ ...first, completed: 0 }, ...evidence.effects.slice(1)];
  expect(offences(shop, { ...evidence, effects: [...begun, again] })).toEqual([]);
  expect(offences(shop, { ...evidence, effects: [...begun, again], killed: new Set() })).toHaveLength(1);
});

test("a first handling before that of an earlier message is out of order; a late duplicate is not", () => {
  const evidence = sound();
  expect(offences(shop, { ...evidence, effects: evidence.effects.toReversed() })).toContain(
    "order: orders ada-1 when ada-0 was next, by north 1",
  );
  const [first, ...others] = evidence.effects as [Effect, ...Effect[]];
  const late = [{ ...first, completed: 0 }, ...others, { ...first, worker: ALIVE }];
  expect(offences(shop, { ...evidence, effects: late })).toEqual([]);
});

test("what a living process left open, and what nobody sent, is told", () => {
  const evidence = sound();
  const open = (worker: string, destination: string): Evidence => ({
    ...evidence,
    sales: evidence.sales.map((sale) =>
      sale.destination === destination && sale.n === 1 ? { ...sale, accepted: 0, worker } : sale,
    ),
  });
  expect(offences(shop, open(KILLED, "emails"))).toEqual([]);
  expect(offences(shop, open(ALIVE, "emails"))).toEqual(["open: emails ada-1, of north 2"]);
  expect(offences(shop, open(KILLED, "orders"))).toEqual(["open: orders ada-1, of north 1"]);
  const sales = evidence.sales.filter(({ n }) => n === 0);
  expect(offences(shop, { ...evidence, sales })).toContain("invented: emails ada-1");
});

test("a report that differs from the books is told", () => {
  const evidence = { ...sound(), killed: new Set<string>() };
  const reported = (more: object): Evidence => {
    const [orders, ...others] = evidence.report.sources;
    return { ...evidence, report: { ...evidence.report, sources: [{ ...orders, ...more } as never, ...others] } };
  };
  const one = { count: 1, ids: ["ada-1"] };
  expect(offences(shop, reported({ missing: one }))).toEqual(["parity: orders missing ada-1"]);
  expect(offences(shop, reported({ dead: one }))).toEqual(["parity: orders dead ada-1"]);
  expect(offences(shop, reported({ unexpected: one }))).toEqual(["parity: orders unexpected ada-1"]);
  expect(offences(shop, { ...reported({ unexpected: one }), unjournaled: 6 })).toEqual([]);
  expect(offences(shop, reported({ published: 1 }))).toEqual(["ledger: orders published 1, not from 2 to 2"]);
  // A killed process may have had the notes of its publishings with it.
  const killed = new Set([KILLED]);
  expect(offences(shop, { ...reported({ unexpected: one, published: 1 }), killed })).toEqual([]);
  expect(offences(shop, reported({ handled: 3 }))).toEqual(["ledger: orders handled 3, not from 2 to 2"]);
  expect(offences(shop, reported({ remaining: { from: 1, to: 0 } }))).toEqual([
    "ledger: orders remaining 1, not from 0 to 0",
  ]);
});
