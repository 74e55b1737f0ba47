import type { IdempotencyStore } from "../../../patterns/idempotency/index.ts";

/** A store object and how it is done with. */
export interface OpenStore {
  readonly store: IdempotencyStore;
  /** Ends its connections. */
  close(): Promise<void>;
}

/** How another process opens a store on the same database. */
export interface ProcessStore {
  /** The URL of a module that exports `openStore(options): OpenStore | Promise<OpenStore>`. */
  readonly module: string;
  /** What it is called with; travels as JSON. */
  readonly options: unknown;
}

/** Takes the database from its users, who keep their connections or lose them, and gives it back. */
export interface Outage {
  /** From its resolution on the database does not answer, or refuses. */
  begin(): Promise<void>;
  /** Resolves when the database takes connections again. A second call does nothing. */
  end(): Promise<void>;
}

/**
 * What the suite needs to know of a store and its database. What is left out makes the cases that need it `not-run`,
 * which is said loudly; nothing is passed over in silence. Keys are unique to a run: the database may be shared.
 */
export interface StoreHarness {
  /** The store's name in the table of results. */
  readonly name: string;
  /** A store with connections of its own onto the one database; each stands for a process of its own. */
  open(): OpenStore | Promise<OpenStore>;
  /** For cases that need processes which can be killed. */
  readonly processes?: ProcessStore;
  /** Why there can be no other process, where the store lives in one. */
  readonly withoutProcesses?: string;
  /** Makes the database unreachable for a while. */
  readonly outage?: Outage;
  /** Why the database cannot be down while its users live. */
  readonly withoutOutage?: string;
  /** How many records there are, ended ones included, whose keys begin so: letters, digits and `-`. */
  count?(prefix: string): Promise<number>;
  /** Whether the database removes what has ended by itself, so that there is nothing to clean. */
  readonly removesByItself?: boolean;
  /** How long any one condition is waited for, in milliseconds. Default 30,000. */
  readonly patienceMs?: number;
}
