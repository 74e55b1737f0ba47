import type { Order } from "./shop.ts";

/** What customers asked for, what was done, and in which order. It stands outside of all instances, as a database does. */
export class Ledger {
  readonly #ordered = new Map<string, Order>();
  readonly #newsletters = new Set<string>();
  readonly #sent = new Set<string>();
  readonly #charges: Order[] = [];
  readonly #charged = new Set<string>();
  readonly #receipts: Order[] = [];
  readonly #receipted = new Set<string>();
  /** Requests that were there before: an instance was cut off between its charge and its acknowledgement. */
  known = 0;

  /** The broker has confirmed it. */
  ordered(order: Order): void {
    this.#ordered.set(order.id, order);
  }

  newsletterOrdered(id: string): void {
    this.#newsletters.add(id);
  }

  /** Charges a card once per order, as a payment provider does with an idempotency key. */
  charge(order: Order): void {
    if (this.#charged.has(order.id)) {
      this.known++;
      return;
    }
    this.#charged.add(order.id);
    this.#charges.push(order);
  }

  receipt(order: Order): void {
    if (this.#receipted.has(order.id)) return;
    this.#receipted.add(order.id);
    this.#receipts.push(order);
  }

  newsletter(id: string): void {
    this.#sent.add(id);
  }

  get progress(): string {
    return `ordered ${this.#ordered.size}  charged ${this.#charges.length}  receipts ${this.#receipts.length}`;
  }

  /** Whether everything that was confirmed is done. */
  get isComplete(): boolean {
    return (
      this.#charges.length >= this.#ordered.size &&
      this.#receipts.length >= this.#charges.length &&
      [...this.#newsletters].every((id) => this.#sent.has(id))
    );
  }

  close(): { readonly closes: boolean; readonly lines: readonly string[] } {
    const charged = this.#charged;
    const receipted = this.#receipted;
    const rows: readonly (readonly [string, number, number?])[] = [
      ["orders confirmed", this.#ordered.size],
      ["orders lost: never charged", [...this.#ordered.keys()].filter((id) => !charged.has(id)).length, 0],
      ["charged without an order", [...charged].filter((id) => !this.#ordered.has(id)).length, 0],
      ["charged more than once", this.#charges.length - charged.size, 0],
      ["charged out of a customer's order", outOfOrder(this.#charges), 0],
      ["receipts lost", [...charged].filter((id) => !receipted.has(id)).length, 0],
      ["receipts out of a customer's order", outOfOrder(this.#receipts), 0],
      ["newsletters confirmed", this.#newsletters.size],
      ["newsletters lost", [...this.#newsletters].filter((id) => !this.#sent.has(id)).length, 0],
      ["requests for a charge that the ledger had, known by their key", this.known],
    ];
    const closes = rows.every(([, count, wanted]) => wanted === undefined || count === wanted);
    return { closes, lines: rows.map(([what, count]) => `  ${what.padEnd(64)}${String(count).padStart(8)}`) };
  }
}

function outOfOrder(orders: readonly Order[]): number {
  const last = new Map<string, number>();
  let count = 0;
  for (const { customer, number } of orders) {
    if (number !== (last.get(customer) ?? -1) + 1) count++;
    last.set(customer, number);
  }
  return count;
}
