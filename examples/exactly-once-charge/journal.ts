import { openSync, readFileSync, writeSync } from "node:fs";

/**
 * What workers do with a message: the handler `started` or `finished`, the delivery was `kept-back` by the middleware as
 * done before, the claim was `lost` while the handler ran, or the message was `dead-lettered`. Of a worker: it is `killed`.
 */
export type Deed = "started" | "finished" | "kept-back" | "lost" | "dead-lettered" | "killed";

/**
 * Writes what a worker did to a file that all share. The line is the system's when the call returns: a worker killed
 * right afterwards has still said what it did.
 */
export function journalWriter(file: string, worker: string): (deed: Deed, id?: string) => void {
  const descriptor = openSync(file, "a");
  return (deed, id = "-") => void writeSync(descriptor, `${deed} ${id} ${worker}\n`);
}

/** The journal, added up. */
export interface Journal {
  /** How many messages have so many deliveries that are over: kept back, run to their end, or dead-lettered. */
  over(deliveries: number): number;
  readonly keptBack: number;
  readonly starts: number;
  /** Starts after an earlier one of the same message whose worker was killed. */
  readonly againAfterKill: number;
  /** Starts after an earlier one of the same message whose worker lived. */
  readonly againWithoutKill: number;
  /** Claims that were lost while the handler ran. */
  readonly lost: number;
  readonly deadLettered: number;
  readonly killed: number;
}

export function readJournal(file: string): Journal {
  const count = { "kept-back": 0, started: 0, finished: 0, lost: 0, "dead-lettered": 0, killed: 0 };
  const again = { afterKill: 0, withoutKill: 0 };
  const killed = new Set<string>();
  const startedBy = new Map<string, string>();
  const ends = new Map<string, number>();
  // What follows the last line's end is a line that is being written.
  for (const line of readFileSync(file, "utf8").split("\n").slice(0, -1)) {
    const [, deed, id, worker] = /^(\S+) (\S+) (.+)$/.exec(line) as unknown as [string, Deed, string, string];
    count[deed]++;
    if (deed === "killed") killed.add(worker);
    else if (deed === "started") {
      const before = startedBy.get(id);
      if (before !== undefined) again[killed.has(before) ? "afterKill" : "withoutKill"]++;
      startedBy.set(id, worker);
    } else if (deed !== "lost") ends.set(id, (ends.get(id) ?? 0) + 1);
  }
  return {
    over: (deliveries) => [...ends.values()].filter((times) => times >= deliveries).length,
    keptBack: count["kept-back"],
    starts: count.started,
    againAfterKill: again.afterKill,
    againWithoutKill: again.withoutKill,
    lost: count.lost,
    deadLettered: count["dead-lettered"],
    killed: count.killed,
  };
}
