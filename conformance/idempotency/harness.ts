import type { IdempotencyStore } from "../../patterns/idempotency/index.ts";
import type { ProcessPlace } from "../stores/store-process.ts";
import type { AnyHarness } from "../stores/suite.ts";

/** An open store. */
export interface OpenStore {
  readonly store: IdempotencyStore;
  /** Closes its connections. */
  close(): Promise<void>;
}

/**
 * What the suite needs of a store and its database. A case whose member is missing is reported as `not-run`. Keys are
 * unique, so the database can be shared.
 */
export interface StoreHarness extends AnyHarness {
  /** A store with its own connections to the database. Each represents a process. */
  open(): OpenStore | Promise<OpenStore>;
  /** For cases that kill processes. The module exports `openStore(options)`, as `open`. */
  readonly processes?: ProcessPlace;
  /** Why no other process can open the store. */
  readonly withoutProcesses?: string;
  /** The number of records, with ended ones, whose keys have this prefix of letters, digits and `-`. */
  count?(prefix: string): Promise<number>;
  /** Whether the database removes ended records by itself. */
  readonly removesByItself?: boolean;
}
