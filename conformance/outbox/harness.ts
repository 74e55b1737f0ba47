import type { InboxStore } from "../../patterns/outbox/inbox-store.ts";
import type { OutboxStore } from "../../patterns/outbox/store.ts";
import type { ProcessPlace } from "../stores/store-process.ts";
import type { AnyHarness } from "../stores/suite.ts";

/** A transaction as a caller of the outbox has one open. */
export interface OpenTransaction<Transaction> {
  /** What `OutboxStore.insert` takes. */
  readonly transaction: Transaction;
  commit(): Promise<void>;
  rollback(): Promise<void>;
}

/** An outbox store with connections of its own. */
export interface OpenOutbox<Transaction> {
  readonly store: OutboxStore<Transaction>;
  /** Begins a transaction on a connection of the caller's. */
  begin(): Promise<OpenTransaction<Transaction>>;
  close(): Promise<void>;
}

/** An empty outbox that nobody else uses. */
export interface OutboxPlace<Transaction> {
  /** Opens it, with connections of its own each time. Where rows can be kept after they were sent, for so long. */
  open(options: { readonly keepSentMs: number }): Promise<OpenOutbox<Transaction>>;
  /** For cases that need processes which can be killed; the module exports `openOutbox(options)`, as `open`. */
  readonly processes?: ProcessPlace;
  remove(): Promise<void>;
}

/**
 * What the suite needs to know of an outbox store and its database. What is left out makes the cases that need it
 * `not-run`, which is said loudly; nothing is passed over in silence.
 */
export interface OutboxHarness<Transaction = unknown> extends AnyHarness {
  place(): Promise<OutboxPlace<Transaction>>;
  /** Why no transaction can commit after one that began to write later, where the database rules it out. */
  readonly withoutLateCommits?: string;
  /** Why there can be no other process, where the store lives in one. */
  readonly withoutProcesses?: string;
}

/** An inbox with connections of its own. */
export interface OpenInbox<Transaction> {
  readonly inbox: InboxStore<Transaction>;
  /** Writes an effect into the table of {@link InboxPlace.effects}, within a handler's transaction. */
  write(transaction: Transaction, effect: string): Promise<void>;
  close(): Promise<void>;
}

/** An empty inbox that nobody else uses, beside a table for effects. */
export interface InboxPlace<Transaction> {
  /** Opens it, with connections of its own each time. */
  open(): Promise<OpenInbox<Transaction>>;
  /** The effects that were committed, in any order. */
  effects(): Promise<readonly string[]>;
  /** For cases that need processes which can be killed; the module exports `openInbox(options)`, as `open`. */
  readonly processes?: ProcessPlace;
  remove(): Promise<void>;
}

/** What the suite needs to know of an inbox and its database; as {@link OutboxHarness}. */
export interface InboxHarness<Transaction = unknown> extends AnyHarness {
  place(): Promise<InboxPlace<Transaction>>;
  /** Ends a transaction in a handler's stead, keeping what was written. */
  commitFromWithin(transaction: Transaction): Promise<void>;
  /** Begins another transaction in a handler's stead, where a connection can. */
  beginFromWithin?(transaction: Transaction): Promise<void>;
  /** Has a statement fail within the transaction, and passes over it; where that dooms the transaction. */
  doom?(transaction: Transaction): Promise<void>;
  /** Why no failed statement dooms a transaction. */
  readonly withoutDoom?: string;
  /** Has the database, or the handler, end the connection of a transaction. Resolves when it has ended. */
  breakFromWithin?(transaction: Transaction): Promise<void>;
  /** Why the connection of a transaction cannot end before it does. */
  readonly withoutBreak?: string;
  /** Why there can be no other process, where the store lives in one. */
  readonly withoutProcesses?: string;
}
