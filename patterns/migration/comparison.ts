import type { Adapter, CapabilityName, Support } from "../../core/index.ts";

/** What may differ between two brokers: a capability, or a limit. */
export type DifferenceName = CapabilityName | "maxMessageBytes" | "maxHeaders" | "maxHeaderBytes" | "priorityLevels";

/** What is compared: an adapter that need not be open, or what is known of one. */
export type Comparable = Pick<Adapter, "name" | "capabilities">;

/** One thing that the two brokers do not have alike. */
export interface Difference {
  readonly name: DifferenceName;
  /** What the old broker has: for a limit, the limit. */
  readonly from: Support | number;
  /** What the new broker has. */
  readonly to: Support | number;
  /**
   * - `lost`: the new broker cannot do it, or takes less. It has to be accepted by name before a migration begins.
   * - `emulated`: the old broker does it itself, and on the new one anybroker does it on top.
   * - `gained`: only the new broker can do it, or it takes more.
   */
  readonly kind: "lost" | "emulated" | "gained";
  /** The destinations that ask for it, as in `queue "orders"`. They are declared without it on the new broker once it is accepted. */
  readonly askedBy: readonly string[];
  /** How the new broker does it, or what to do instead. */
  readonly note: string;
}

/** What two brokers do not have alike, in the order of the tables of capabilities. */
export interface Comparison {
  /** The names of the brokers, as in `rabbitmq`. */
  readonly from: string;
  readonly to: string;
  readonly differences: readonly Difference[];
  /** Those of kind `lost`: what a migration has to accept. */
  readonly lost: readonly DifferenceName[];
}
