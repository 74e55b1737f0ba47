/**
 * How far a migration has come. Each is entered by `advance` and left backwards by `rollback`:
 *
 * - `new`: nothing is agreed on. The old broker is used alone.
 * - `prepared`: what the new broker cannot do was accepted by name. The old broker is still used alone.
 * - `consuming`: every instance consumes from both brokers. Everything is published to the old one.
 * - `publishing`: a share of the keys is published to the new broker.
 * - `bridged`: everything is published to the new broker, and what nobody handles on the old one was moved.
 * - `proven`: every id that went in was handled, and the old broker is empty.
 * - `retired`: the new broker is used alone.
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
