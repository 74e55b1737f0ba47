import { closeSync, openSync, readSync, writeSync } from "node:fs";

/** Who handles: the workers of the queue, and one for each subscription. */
export type Role = "orders" | "billing" | "warehouse";
type Entry = "handled" | "dead-lettered";

/**
 * Writes what was done to a file that all workers share. The line is the system's when the call returns, before the
 * message is acknowledged: a worker killed right afterwards has still said what it did.
 */
export function ledgerWriter(file: string): (entry: Entry, role: Role, orderId: string) => void {
  const descriptor = openSync(file, "a");
  return (entry, role, orderId) => void writeSync(descriptor, `${entry} ${role} ${orderId}\n`);
}

/** What became of what one role was given. `given = handled + deadLettered + lost`, whatever happens. */
export interface Account {
  readonly role: Role;
  /** Orders accepted, or events of handled orders. */
  readonly given: number;
  readonly handled: number;
  /** Times that something was handled once more. */
  readonly duplicates: number;
  readonly deadLettered: number;
  readonly lost: number;
}

class Page {
  readonly handled = new Set<string>();
  readonly deadLettered = new Set<string>();
  duplicates = 0;
}

const CHUNK_BYTES = 65_536;

/** Reads the file as it grows, and adds up. */
export class Ledger {
  readonly #accepted = new Set<string>();
  readonly #pages: Readonly<Record<Role, Page>> = { orders: new Page(), billing: new Page(), warehouse: new Page() };
  readonly #descriptor: number;
  readonly #chunk = Buffer.alloc(CHUNK_BYTES);
  #rest = "";

  constructor(file: string) {
    this.#descriptor = openSync(file, "a+");
  }

  /** The broker has confirmed the order. */
  accepted(orderId: string): void {
    this.#accepted.add(orderId);
  }

  get acceptedCount(): number {
    return this.#accepted.size;
  }

  /** Takes in what was written since the last call. */
  read(): void {
    for (;;) {
      const length = readSync(this.#descriptor, this.#chunk);
      if (length === 0) return;
      const lines = (this.#rest + this.#chunk.toString("latin1", 0, length)).split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.#book(line);
    }
  }

  #book(line: string): void {
    const [entry, role, orderId] = line.split(" ") as [Entry, Role, string];
    const page = this.#pages[role];
    if (entry === "dead-lettered") page.deadLettered.add(orderId);
    else if (page.handled.has(orderId)) page.duplicates++;
    else page.handled.add(orderId);
  }

  account(role: Role): Account {
    const given = role === "orders" ? this.#accepted : this.#pages.orders.handled;
    const { handled, deadLettered, duplicates } = this.#pages[role];
    let handledOfGiven = 0;
    let deadOfGiven = 0;
    for (const id of given) {
      if (handled.has(id)) handledOfGiven++;
      else if (deadLettered.has(id)) deadOfGiven++;
    }
    const lost = given.size - handledOfGiven - deadOfGiven;
    return { role, given: given.size, handled: handledOfGiven, duplicates, deadLettered: deadOfGiven, lost };
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}
