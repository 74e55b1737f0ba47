import type { JournalClass, MarkKind } from "./store.ts";

/** A mark as a bit, as stores keep them together. */
export const MARK: Readonly<Record<MarkKind, number>> = { published: 1, handled: 2, dead: 4 };
export const PUBLISHED_AND_HANDLED = MARK.published | MARK.handled;

/** For each class: which bits are looked at, and what they have to be. */
export const CLASS: Readonly<Record<JournalClass, { readonly mask: number; readonly value: number }>> = {
  missing: { mask: MARK.published | MARK.handled | MARK.dead, value: MARK.published },
  dead: { mask: MARK.handled | MARK.dead, value: MARK.dead },
  unexpected: { mask: PUBLISHED_AND_HANDLED, value: MARK.handled },
};

/** Whether a set of marks belongs to a class. */
export function belongs(marks: number, which: JournalClass): boolean {
  return (marks & CLASS[which].mask) === CLASS[which].value;
}
