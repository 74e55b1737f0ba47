import type { ProcessAdapter } from "../../../conformance/index.ts";
import type { BooksPlace } from "./inbox-books.ts";

/**
 * Where a worker dies: with the row in and nothing else; with the effect in too; with the outgoing message in too; about
 * the commit; and when it is committed but not acknowledged.
 */
export const STEPS = ["begun", "written", "sent", "committing", "committed"] as const;

/** What a worker is told. */
export interface InboxWorkOrder {
  readonly adapter: ProcessAdapter;
  readonly books: BooksPlace;
  readonly queue: string;
  readonly next: string;
  /** At which step of which message it dies, counted from 1. */
  readonly step: (typeof STEPS)[number];
  readonly nth: number;
}
