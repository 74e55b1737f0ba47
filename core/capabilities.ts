/** Whether the broker does it itself (`native`), anybroker does it on top, or it is refused. */
export type Support = "native" | "emulated" | "unsupported";

/** Whether and how a broker supports one feature. */
export interface Capability {
  readonly support: Support;
  /** One line for people: how it works, its limit, or what to do instead. */
  readonly note: string;
}

/** The name of every capability, in the order of the tables in the docs. */
export const CAPABILITY_NAMES = [
  "order",
  "delay",
  "priority",
  "ttl",
  "rewind",
  "fanOut",
  "routingFilter",
  "lease",
  "deduplication",
  "transactions",
  "durable",
] as const;

/** A key of {@link Capabilities}. */
export type CapabilityName = (typeof CAPABILITY_NAMES)[number];

/**
 * The features and limits of an adapter, as data. The table of `docs/capabilities.md` is made from it, and the conformance
 * suite proves each line. The engine refuses `unsupported` features by name before anything is sent.
 */
export interface Capabilities extends Readonly<Record<CapabilityName, Capability>> {
  /** Order per key on destinations declared `ordered`. */
  readonly order: Capability;
  /** Delayed delivery. `maxMs` is the longest delay in one hop; longer delays take several hops. */
  readonly delay: Capability & { readonly maxMs: number };
  /** Messages of higher priority overtake others. `levels` is the most priorities of a queue. */
  readonly priority: Capability & { readonly levels: number };
  /** Expired messages are dead-lettered instead of delivered. */
  readonly ttl: Capability;
  /** A new subscription may start in the past, and `rewind` may move an existing one there. */
  readonly rewind: Capability;
  /** Topics with any number of subscriptions. */
  readonly fanOut: Capability;
  /** Subscriptions that take only the routing keys that match a pattern. */
  readonly routingFilter: Capability;
  /** A delivery belongs to its consumer for a limited time, which the engine extends while the handler runs. */
  readonly lease: Capability;
  /** The broker itself drops a second message of the same id within a while. */
  readonly deduplication: Capability;
  /** Sending and settling in one atomic step. */
  readonly transactions: Capability;
  /** Confirmed messages survive a restart of the broker. */
  readonly durable: Capability;
  /** The largest body, in bytes. */
  readonly maxMessageBytes: number;
  /** The most headers a caller may give. */
  readonly maxHeaders: number;
  /** The most bytes of all header names and values together, in UTF-8. */
  readonly maxHeaderBytes: number;
}
