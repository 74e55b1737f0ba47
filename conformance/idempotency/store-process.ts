import { type ProcessPlace, StoreProcess } from "../stores/store-process.ts";
import type { StoreContext } from "./context.ts";

/** The orders of a store process. Each has one answer. */
export type StoreOrder =
  | { readonly type: "open"; readonly from: ProcessPlace }
  /** Claims all keys at once. Answers with the status of each. */
  | { readonly type: "claim"; readonly keys: readonly string[]; readonly leaseMs: number };

const EXTENSION = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
const PROGRAM = new URL(`store-worker${EXTENSION}`, import.meta.url);

/** Starts a process. Resolves when its store is open. */
export async function startStoreProcess(context: StoreContext, from: ProcessPlace): Promise<StoreProcess<StoreOrder>> {
  const process = new StoreProcess<StoreOrder>(context, PROGRAM);
  await process.ask({ type: "open", from });
  return process;
}
