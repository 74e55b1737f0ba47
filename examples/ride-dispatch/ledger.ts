import type { AuditBook } from "./audit.ts";
import type { Drivers } from "./drivers.ts";
import type { Post } from "./receipts.ts";
import type { Request } from "./rides.ts";

/** All that a day of rides leaves behind. */
export interface Day {
  readonly requested: readonly Request[];
  /** Requests that were sent a second time. */
  readonly again: number;
  readonly drivers: Drivers;
  readonly post: Post;
  readonly live: AuditBook;
  /** Undefined where the broker of the audit keeps nothing to recompute it from. */
  readonly recomputed: AuditBook | undefined;
}

/** Adds a day up. It closes if each ride has one driver, one receipt and one entry, in both audits alike. */
export function closeLedger({ requested, again, drivers, post, live, recomputed }: Day): {
  readonly closes: boolean;
  readonly lines: readonly string[];
} {
  const unpaid = requested.filter(({ rideId }) => post.letters.get(rideId) === undefined).length;
  const [earned, owed] = [sum(live.earnings().values()), sum(post.letters.values())];
  const rows: readonly (readonly [label: string, value: number, wanted?: number])[] = [
    ["rides requested", requested.length],
    ["requests that came twice", again],
    ["rides with a driver", drivers.rides, requested.length],
    ["times that a driver was sent out", drivers.sentOut, requested.length],
    ["rides with two drivers, as the audit sees it", live.contradictions, 0],
    ["receipts mailed", post.letters.size, requested.length],
    ["rides without a receipt", unpaid, 0],
    ["times that the mail server did not answer", post.failures],
    ["rides in the live audit", live.rides, requested.length],
    ["cents in the live audit", earned, owed],
    ["cents on receipts", owed],
  ];
  const replayed: typeof rows =
    recomputed === undefined
      ? []
      : [
          ["rides in the recomputed audit", recomputed.rides, live.rides],
          ["drivers whose earnings differ in it", differing(live.earnings(), recomputed.earnings()), 0],
        ];
  const all = [...rows, ...replayed];
  return {
    closes: all.every(([, value, wanted = value]) => value === wanted),
    lines: all.map(([label, value]) => `${label.padStart(46)}${String(value).padStart(10)}`),
  };
}

function sum(values: Iterable<number>): number {
  return [...values].reduce((total, value) => total + value, 0);
}

function differing(one: ReadonlyMap<string, number>, other: ReadonlyMap<string, number>): number {
  const names = new Set([...one.keys(), ...other.keys()]);
  return [...names].filter((name) => one.get(name) !== other.get(name)).length;
}
