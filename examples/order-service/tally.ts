import { openSync, readFileSync, writeSync } from "node:fs";

/** What billing does: the handler `started`, the inbox had a copy `kept-back`, or an event was `dead-lettered`. */
export type Deed = "started" | "kept-back" | "dead-lettered";

export type Tally = Readonly<Record<Deed, number>>;

/** Writes to a file that all workers share. A worker that is killed after the call has still said what it did. */
export function tallyWriter(file: string): (deed: Deed) => void {
  const descriptor = openSync(file, "a");
  return (deed) => void writeSync(descriptor, `${deed}\n`);
}

export function readTally(file: string): Tally {
  const tally = { started: 0, "kept-back": 0, "dead-lettered": 0 };
  // What follows the last line's end is a line that is being written.
  for (const deed of readFileSync(file, "utf8").split("\n").slice(0, -1)) tally[deed as Deed]++;
  return tally;
}
