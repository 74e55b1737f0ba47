import { type Clock, MessagingError } from "../../core/index.ts";
import type { MigrationStore } from "./store.ts";

/** The options of {@link memoryMigrationStore}. */
export interface MemoryMigrationStoreOptions {
  /** Where leases take their time from. Default: the machine. */
  readonly clock?: Clock;
}

/** A state store for one process: for tests, and to try things out. Throws `invalid` for wrong options. */
export function memoryMigrationStore(options: MemoryMigrationStoreOptions = {}): MigrationStore {
  throw new MessagingError("unsupported", `memoryMigrationStore is not built yet: ${typeof options}`);
}
