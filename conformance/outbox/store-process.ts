import type { InboxMessage } from "../../patterns/outbox/inbox-store.ts";
import type { NewOutboxRow } from "../../patterns/outbox/store.ts";
import { type ProcessPlace, StoreProcess } from "../stores/store-process.ts";
import type { StoreContext } from "../stores/suite.ts";

/** The orders of a store process. Each has one answer. */
export type StoreOrder =
  | { readonly type: "open"; readonly what: "outbox" | "inbox"; readonly from: ProcessPlace }
  /** Inserts the rows in a transaction that stays open. Answers when they are inserted. */
  | {
      readonly type: "insert-and-stay";
      readonly rows: readonly (Omit<NewOutboxRow, "body"> & { readonly body: string })[];
    }
  /** Answers with the ids of the claimed rows. */
  | { readonly type: "claim"; readonly leaseMs: number }
  /** Handles a message whose effect is its id. Answers after the commit; with `stay` before it, and then never commits. */
  | { readonly type: "handle"; readonly message: InboxMessage; readonly stay: boolean };

const EXTENSION = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const PROGRAM = new URL(`store-worker${EXTENSION}`, import.meta.url);

/** Starts a process. Resolves when its store is open. */
export async function startStoreProcess(
  context: StoreContext<unknown>,
  what: "outbox" | "inbox",
  from: ProcessPlace,
): Promise<StoreProcess<StoreOrder>> {
  const process = new StoreProcess<StoreOrder>(context, PROGRAM);
  await process.ask({ type: "open", what, from });
  return process;
}
