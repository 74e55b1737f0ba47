import { MessagingError } from "../../core/index.ts";
import type { MigrationControl, MigrationControlOptions } from "./contract.ts";

/**
 * Drives a migration from a process of its own, such as the command line. Brokers are connected when they are first needed:
 * `status` and `compare` connect to none. Throws `invalid` for wrong options.
 */
export function migrationControl(options: MigrationControlOptions): MigrationControl {
  throw new MessagingError("unsupported", `migrationControl is not built yet: ${typeof options}`);
}
