/**
 * The steps of a migration, entered by `advance` and left by `rollback`:
 *
 * - `new`: not begun. Only the old broker is used.
 * - `prepared`: the losses of the new broker are accepted. Only the old broker is used.
 * - `consuming`: every instance consumes from both brokers. All publish to the old one.
 * - `publishing`: a share of the keys is published to the new broker.
 * - `bridged`: all publish to the new broker, and the old one's leftovers were moved or handled.
 * - `proven`: every published id was handled, and the old broker is empty.
 * - `retired`: only the new broker is used.
 */
export type MigrationStep = "new" | "prepared" | "consuming" | "publishing" | "bridged" | "proven" | "retired";

/** Every {@link MigrationStep}, in order. */
export const MIGRATION_STEPS: readonly MigrationStep[] = [
  "new",
  "prepared",
  "consuming",
  "publishing",
  "bridged",
  "proven",
  "retired",
];
