import type { IdempotencyStore } from "../../patterns/idempotency/index.ts";
import type { ProcessPlace } from "../stores/store-process.ts";
import type { AnyHarness } from "../stores/suite.ts";

/** A store object and how it is done with. */
export interface OpenStore {
  readonly store: IdempotencyStore;
  /** Ends its connections. */
  close(): Promise<void>;
}

/**
 * What the suite needs to know of a store and its database. What is left out makes the cases that need it `not-run`,
 * which is said loudly; nothing is passed over in silence. Keys are unique to a run: the database may be shared.
 */
export interface StoreHarness extends AnyHarness {
  /** A store with connections of its own onto the one database; each stands for a process of its own. */
  open(): OpenStore | Promise<OpenStore>;
  /** For cases that need processes which can be killed; the module exports `openStore(options)`, as `open`. */
  readonly processes?: ProcessPlace;
  /** Why there can be no other process, where the store lives in one. */
  readonly withoutProcesses?: string;
  /** How many records there are, ended ones included, whose keys begin so: letters, digits and `-`. */
  count?(prefix: string): Promise<number>;
  /** Whether the database removes what has ended by itself, so that there is nothing to clean. */
  readonly removesByItself?: boolean;
}
