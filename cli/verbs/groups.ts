/** The words that several commands begin with, and what they are about. */
export const GROUPS: Readonly<Record<string, string>> = Object.freeze({
  topology: "What stands on the broker: show, create, verify, diff",
  dlq: "Dead letters: list, group, show, replay, discard, edit, report",
  migrate: "A migration to another broker: status, advance, rollback, report",
  outbox: "Outboxes: status, retry, prune",
});
