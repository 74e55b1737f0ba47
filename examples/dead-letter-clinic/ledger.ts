import type { Edited } from "anybroker/dead-letters";

/** How an order ended. */
type End = "as it was sent" | "after a replay" | "as an edited copy" | "archived";

/** What a run comes to. */
export interface Closing {
  /** Whether every order had one end, nothing else had any, and no dead letter is left. */
  readonly closes: boolean;
  readonly lines: readonly string[];
}

/** What became of each order. */
export class Ledger {
  readonly #given = new Set<string>();
  readonly #handled: { readonly order: string; readonly message: string }[] = [];
  readonly #handledMessages = new Set<string>();
  readonly #dead = new Set<string>();
  readonly #editedFrom = new Map<string, string>();
  readonly #archived: string[] = [];
  #keptBack = 0;

  /** The broker has confirmed the order. */
  given(order: string): void {
    this.#given.add(order);
  }

  /** A worker has handled the order, under the id of its message. */
  handled(order: string, message: string): void {
    this.#handled.push({ order, message });
    this.#handledMessages.add(message);
  }

  /** A message is in the dead letters. */
  deadLettered(message: string): void {
    this.#dead.add(message);
  }

  /** A message was replaced by an edited copy. */
  edited({ id, editedFrom }: Edited): void {
    this.#editedFrom.set(id, editedFrom);
  }

  /** An order stands in the archive. */
  archived(order: string): void {
    this.#archived.push(order);
  }

  /** The middleware kept a second delivery of what was handled from the handler. */
  keptBack(): void {
    this.#keptBack++;
  }

  /** How many orders were neither handled nor dead-lettered so far. */
  get waiting(): number {
    let over = 0;
    for (const id of this.#given) if (this.#handledMessages.has(id) || this.#dead.has(id)) over++;
    return this.#given.size - over;
  }

  isHandled(message: string): boolean {
    return this.#handledMessages.has(message);
  }

  /** How many orders have no end so far. */
  get open(): number {
    return this.#given.size - this.#ends().ends.size;
  }

  /** The ends of each order that was given, and how many there are that lead to no such order. */
  #ends(): { readonly ends: ReadonlyMap<string, readonly End[]>; readonly strange: number } {
    const ends = new Map<string, End[]>();
    let strange = 0;
    const end = (order: string, how: End | undefined): void => {
      if (how === undefined || !this.#given.has(order)) strange++;
      else ends.set(order, [...(ends.get(order) ?? []), how]);
    };
    for (const { order, message } of this.#handled) end(order, this.#howHandled(order, message));
    for (const order of this.#archived) end(order, "archived");
    return { ends, strange };
  }

  #howHandled(order: string, message: string): End | undefined {
    if (message === order) return this.#dead.has(message) ? "after a replay" : "as it was sent";
    return this.#editedFrom.get(message) === order ? "as an edited copy" : undefined;
  }

  /** Adds up, given how many dead letters the broker has left. */
  close(deadLetters: number): Closing {
    const { ends, strange } = this.#ends();
    const all = [...ends.values()];
    const once = (how: End): number => all.filter((each) => each.length === 1 && each[0] === how).length;
    const twice = all.filter((each) => each.length > 1).length;
    const lost = this.#given.size - ends.size;
    const row = (label: string, count: number): string => `  ${label.padEnd(62)}${String(count).padStart(10)}`;
    return {
      closes: twice === 0 && lost === 0 && strange === 0 && deadLetters === 0,
      lines: [
        row("orders given", this.#given.size),
        row("handled as they were sent", once("as it was sent")),
        row("handled after a replay", once("after a replay")),
        row("handled as an edited copy", once("as an edited copy")),
        row("archived", once("archived")),
        row("handled or archived more than once", twice),
        row("lost", lost),
        row("handled or archived, and no order that was given", strange),
        row("second deliveries that were kept from the handler", this.#keptBack),
        row("dead letters left", deadLetters),
      ],
    };
  }
}
