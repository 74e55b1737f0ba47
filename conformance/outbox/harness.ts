import type { InboxStore } from "../../patterns/outbox/inbox-store.ts";
import type { OutboxStore } from "../../patterns/outbox/store.ts";
import type { ProcessPlace } from "../stores/store-process.ts";
import type { AnyHarness } from "../stores/suite.ts";

/** An open transaction of a caller. */
export interface OpenTransaction<Transaction> {
  /** The argument of `OutboxStore.insert`. */
  readonly transaction: Transaction;
  commit(): Promise<void>;
  rollback(): Promise<void>;
}

/** An outbox store with its own connections. */
export interface OpenOutbox<Transaction> {
  readonly store: OutboxStore<Transaction>;
  /** Begins a transaction on the caller's connection. */
  begin(): Promise<OpenTransaction<Transaction>>;
  close(): Promise<void>;
}

/** An empty outbox for one case. */
export interface OutboxPlace<Transaction> {
  /** Opens it with new connections. Sent rows are kept for `keepSentMs`, if the store can keep them. */
  open(options: { readonly keepSentMs: number }): Promise<OpenOutbox<Transaction>>;
  /** For cases that kill processes. The module exports `openOutbox(options)`, as `open`. */
  readonly processes?: ProcessPlace;
  remove(): Promise<void>;
}

/** What the suite needs of an outbox store and its database. A case whose member is missing is reported as `not-run`. */
export interface OutboxHarness<Transaction = unknown> extends AnyHarness {
  place(): Promise<OutboxPlace<Transaction>>;
  /** Why no transaction can commit after one that began to write later. */
  readonly withoutLateCommits?: string;
  /** Why no other process can open the store. */
  readonly withoutProcesses?: string;
}

/** An inbox with its own connections. */
export interface OpenInbox<Transaction> {
  readonly inbox: InboxStore<Transaction>;
  /** Writes an effect into the table of {@link InboxPlace.effects}, in the handler's transaction. */
  write(transaction: Transaction, effect: string): Promise<void>;
  close(): Promise<void>;
}

/** An empty inbox for one case, with a table for effects. */
export interface InboxPlace<Transaction> {
  /** Opens it with new connections. */
  open(): Promise<OpenInbox<Transaction>>;
  /** The committed effects, in any order. */
  effects(): Promise<readonly string[]>;
  /** For cases that kill processes. The module exports `openInbox(options)`, as `open`. */
  readonly processes?: ProcessPlace;
  remove(): Promise<void>;
}

/** What the suite needs of an inbox and its database; as {@link OutboxHarness}. */
export interface InboxHarness<Transaction = unknown> extends AnyHarness {
  place(): Promise<InboxPlace<Transaction>>;
  /** Commits the transaction, as a wrong handler may. */
  commitFromWithin(transaction: Transaction): Promise<void>;
  /** Begins another transaction on the connection, as a wrong handler may. */
  beginFromWithin?(transaction: Transaction): Promise<void>;
  /** Makes a statement of the transaction fail, and ignores the failure, which dooms the transaction. */
  doom?(transaction: Transaction): Promise<void>;
  /** Why no failed statement dooms a transaction. */
  readonly withoutDoom?: string;
  /** Ends the connection of a transaction. Resolves when it has ended. */
  breakFromWithin?(transaction: Transaction): Promise<void>;
  /** Why the connection of a transaction cannot end before the transaction. */
  readonly withoutBreak?: string;
  /** Why no other process can open the store. */
  readonly withoutProcesses?: string;
}
