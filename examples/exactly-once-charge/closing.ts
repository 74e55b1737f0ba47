import type { Entry } from "./books.ts";
import type { Charge } from "./charges.ts";
import type { Journal } from "./journal.ts";

/** What a run comes to. */
export interface Closing {
  /** Whether every card was charged once, with what was to be charged, and nothing else was. */
  readonly closes: boolean;
  readonly lines: readonly string[];
}

/** Holds what was to be charged against the ledger, and says how it came to that. */
export function closeBooks(given: readonly Charge[], ledger: readonly Entry[], journal: Journal): Closing {
  const charged = new Map<string, Entry[]>();
  for (const entry of ledger) charged.set(entry.card, [...(charged.get(entry.card) ?? []), entry]);
  const times = given.map(({ card }) => charged.get(card)?.length ?? 0);
  const onceOnly = times.filter((count) => count === 1).length;
  const centsGiven = given.reduce((sum, { cents }) => sum + cents, 0);
  const centsCharged = ledger.reduce((sum, { cents }) => sum + cents, 0);
  const refused = ledger.reduce((sum, { requests }) => sum + requests - 1, 0);
  const row = (label: string, count: number): string => `  ${label.padEnd(62)}${String(count).padStart(10)}`;
  return {
    closes: onceOnly === given.length && ledger.length === given.length && centsCharged === centsGiven,
    lines: [
      "The ledger",
      row("cards to charge", given.length),
      row("charged exactly once", onceOnly),
      row("charged more than once", times.filter((count) => count > 1).length),
      row("not charged", times.filter((count) => count === 0).length),
      row("cents to charge", centsGiven),
      row("cents charged", centsCharged),
      "How it came to that",
      row("messages published, each charge twice", 2 * given.length),
      row("workers killed", journal.killed),
      row("deliveries that the store kept from the handler: done before", journal.keptBack),
      row("starts of the handler", journal.starts),
      row("  again, the worker of the start before was killed", journal.againAfterKill),
      row("  again, though it was not", journal.againWithoutKill),
      row("claims lost while their handler ran", journal.lost),
      row("requests for a charge that the ledger had, known by their key", refused),
      row("dead letters", journal.deadLettered),
    ],
  };
}
