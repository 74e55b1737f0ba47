import type { Contents, Invoice } from "./books.ts";
import type { Answers } from "./buyers.ts";
import type { Role } from "./job.ts";
import type { Customer } from "./orders.ts";
import type { Tally } from "./tally.ts";

/** What a run comes to. */
export interface Closing {
  /** Whether every order that was accepted has one invoice, for its own amount, and nothing else has. */
  readonly balance: boolean;
  readonly lines: readonly string[];
}

/** What the books are closed from. */
export interface Evidence {
  readonly customers: readonly Customer[];
  readonly answers: Answers;
  readonly contents: Contents;
  readonly tally: Tally;
  readonly killed: Readonly<Record<Role, number>>;
}

/** Holds what buyers were told against the orders and the invoices, and says how it came to that. */
export function closeBooks({ customers, answers, contents, tally, killed }: Evidence): Closing {
  const { orders, invoices, creditLeft } = contents;
  const invoicesOf = new Map<string, number>();
  for (const { orderId } of invoices) invoicesOf.set(orderId, (invoicesOf.get(orderId) ?? 0) + 1);
  const placed = new Map(orders.map((order) => [order.id, order]));
  const isWrong = ({ orderId, customer, cents }: Invoice): boolean => {
    const order = placed.get(orderId);
    return order !== undefined && (order.customer !== customer || order.cents !== cents);
  };
  const withInvoices = (wanted: (count: number) => boolean): number =>
    [...answers.accepted].filter((id) => wanted(invoicesOf.get(id) ?? 0)).length;
  const total = (amounts: readonly { readonly cents: number }[]): number =>
    amounts.reduce((sum, { cents }) => sum + cents, 0);
  const count = {
    accepted: answers.accepted.size,
    once: withInvoices((invoices) => invoices === 1),
    more: withInvoices((invoices) => invoices > 1),
    none: withInvoices((invoices) => invoices === 0),
    notPlaced: [...answers.accepted].filter((id) => !placed.has(id)).length,
    notAccepted: orders.filter(({ id }) => !answers.accepted.has(id)).length,
    withoutOrder: invoices.filter(({ orderId }) => !placed.has(orderId)).length,
    wrong: invoices.filter(isWrong).length,
    spent: customers.reduce((sum, { credit }) => sum + credit, 0) - creditLeft,
    ordered: total(orders),
    invoiced: total(invoices),
  };
  const row = (label: string, number: number): string => `  ${label.padEnd(62)}${String(number).padStart(10)}`;
  return {
    balance:
      count.once === count.accepted &&
      count.notPlaced + count.notAccepted + count.withoutOrder + count.wrong === 0 &&
      count.spent === count.ordered &&
      count.invoiced === count.ordered,
    lines: [
      "The books",
      row("orders accepted", count.accepted),
      row("  with exactly one invoice", count.once),
      row("  with more than one invoice", count.more),
      row("  without an invoice", count.none),
      row("  that are not in the books", count.notPlaced),
      row("orders in the books that nobody was told of", count.notAccepted),
      row("orders refused for want of credit, rolled back with their event", answers.refused.size),
      row("invoices without an order", count.withoutOrder),
      row("invoices that say something else than their order", count.wrong),
      row("cents of credit spent", count.spent),
      row("cents ordered", count.ordered),
      row("cents invoiced", count.invoiced),
      "How it came to that",
      row("shops killed, each an API and a relay", killed.shop),
      row("billing workers killed", killed.billing),
      row("requests without an answer, made again", answers.unanswered),
      row("orders whose first answer was lost, found there by the next", answers.there.size),
      row("starts of the billing handler", tally.started),
      row("  again, for an order that it had been started for before", tally.started - count.once - count.more),
      row("copies of events that the inbox kept from the handler", tally["kept-back"]),
      row("dead letters", tally["dead-lettered"]),
    ],
  };
}
