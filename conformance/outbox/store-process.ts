import type { InboxMessage } from "../../patterns/outbox/inbox-store.ts";
import type { NewOutboxRow } from "../../patterns/outbox/store.ts";
import { type ProcessPlace, StoreProcess } from "../stores/store-process.ts";
import type { StoreContext } from "../stores/suite.ts";

/** What a store process is asked for; it answers each once. */
export type StoreOrder =
  | { readonly type: "open"; readonly what: "outbox" | "inbox"; readonly from: ProcessPlace }
  /** Inserts a row of each id in a transaction that stays open; answers when they are in. */
  | {
      readonly type: "insert-and-stay";
      readonly rows: readonly (Omit<NewOutboxRow, "body"> & { readonly body: string })[];
    }
  /** Answers with the ids of the claimed rows. */
  | { readonly type: "claim"; readonly leaseMs: number }
  /** Handles a message whose effect is its id; answers before the commit and stays there, or after it. */
  | { readonly type: "handle"; readonly message: InboxMessage; readonly stay: boolean };

const EXTENSION = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const PROGRAM = new URL(`store-worker${EXTENSION}`, import.meta.url);

/** Starts a process; resolves when its store is open. */
export async function startStoreProcess(
  context: StoreContext<unknown>,
  what: "outbox" | "inbox",
  from: ProcessPlace,
): Promise<StoreProcess<StoreOrder>> {
  const process = new StoreProcess<StoreOrder>(context, PROGRAM);
  await process.ask({ type: "open", what, from });
  return process;
}
