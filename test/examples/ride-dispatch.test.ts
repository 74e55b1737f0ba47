import { expect, test } from "vitest";
import { AuditBook } from "../../examples/ride-dispatch/audit.ts";
import { Drivers } from "../../examples/ride-dispatch/drivers.ts";
import { closeLedger, type Day } from "../../examples/ride-dispatch/ledger.ts";
import { Post } from "../../examples/ride-dispatch/receipts.ts";
import { type Matched, request } from "../../examples/ride-dispatch/rides.ts";
import { rowOf } from "./exactly-once-charge-books.ts";
import { expectDispatchToClose, useDispatch } from "./ride-dispatch-ledger.ts";

const dispatch = useDispatch();

test("a day of rides in process, whose audit nothing is kept for", { timeout: 600_000 }, async () => {
  const output = await dispatch(1_000, {});
  expect(output).toContain("matching on memory, audit on memory, receipts on memory\n");
  expectDispatchToClose(output, 1_000);
  expect(output).toMatch(/the audit cannot be recomputed here: .* asks for rewind, and memory cannot give it/);
  expect(output).not.toContain("recomputed audit");
});

/** What happens in a day of two rides. */
interface Events {
  readonly requested: readonly number[];
  readonly matched: readonly number[];
  readonly audited: readonly Matched[];
  readonly mailed: readonly Matched[];
  readonly recomputed: readonly Matched[];
}

const drivers = new Drivers();
const one = drivers.match(request(1));
const two = drivers.match(request(2));
const whole: Events = {
  requested: [1, 2],
  matched: [1, 1, 2],
  audited: [one, two, two],
  mailed: [one, two],
  recomputed: [two, one],
};

async function close(events: Events): Promise<ReturnType<typeof closeLedger>> {
  const book = (entries: readonly Matched[]): AuditBook => {
    const audit = new AuditBook();
    for (const each of entries) audit.enter(each);
    return audit;
  };
  const post = new Post();
  for (const { rideId, cents } of events.mailed) await post.mail({ rideId, rider: "rider", cents });
  const found = new Drivers();
  for (const number of events.matched) found.match(request(number));
  const day: Day = {
    requested: events.requested.map(request),
    again: 0,
    drivers: found,
    post,
    live: book(events.audited),
    recomputed: book(events.recomputed),
  };
  return closeLedger(day);
}

test("the ledger closes over duplicates", async () => {
  expect(await close(whole)).toMatchObject({ closes: true });
});

test.for([
  ["a ride without a driver", { matched: [1] }, "rides with a driver", 1],
  ["a ride without a receipt", { mailed: [one] }, "rides without a receipt", 1],
  ["a receipt over another sum", { mailed: [one, { ...two, cents: 1 }] }, "cents on receipts", one.cents + 1],
  ["a ride that was not audited", { audited: [one] }, "rides in the live audit", 1],
  ["a ride with two drivers", { audited: [one, two, { ...two, driver: "other" }] }, "rides with two drivers", 1],
  ["an audit that misses a ride", { recomputed: [one] }, "rides in the recomputed audit", 1],
  ["an audit with another sum", { recomputed: [one, { ...two, cents: 1 }] }, "drivers whose earnings differ", 1],
] as const)("the ledger does not close over %s", async ([, events, label, value]) => {
  const { closes, lines } = await close({ ...whole, ...events });
  expect(closes).toBe(false);
  expect(rowOf(lines.join("\n"), label)).toBe(value);
});
