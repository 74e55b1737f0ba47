/** Whether the broker does it itself, anybroker does it on top, or it cannot be had and is refused. */
export type Support = "native" | "emulated" | "unsupported";

/** One thing that can be asked of a broker: whether it can be had, and how. */
export interface Capability {
  readonly support: Support;
  /** One line for people: how it is done, up to which limit, or what to do instead. */
  readonly note: string;
}

/** What can be asked of a broker. Each is a key of {@link Capabilities}. */
export type CapabilityName =
  | "order"
  | "delay"
  | "priority"
  | "ttl"
  | "rewind"
  | "fanOut"
  | "routingFilter"
  | "lease"
  | "deduplication"
  | "transactions"
  | "durable";

/** Every {@link CapabilityName}, in the order in which tables show them. */
export const CAPABILITY_NAMES: readonly CapabilityName[] = [
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
];

/**
 * What an adapter can do, as data. The table of `docs/capabilities.md` is made from it, the conformance suite proves each
 * line, and what is `unsupported` is refused by name before anything is sent.
 */
export interface Capabilities extends Readonly<Record<CapabilityName, Capability>> {
  /** Order per key on destinations declared `ordered`. */
  readonly order: Capability;
  /** Sending now what is delivered later. `maxMs` is the longest delay in one hop; longer ones are made of several. */
  readonly delay: Capability & { readonly maxMs: number };
  /** Messages of a higher priority overtake. `levels` is the highest number of priorities a queue can have. */
  readonly priority: Capability & { readonly levels: number };
  /** Messages that are too old are dead-lettered instead of delivered. */
  readonly ttl: Capability;
  /** A new subscription may start in the past, and one that exists may be moved there by `rewind`. */
  readonly rewind: Capability;
  /** Topics with any number of subscriptions. */
  readonly fanOut: Capability;
  /** Subscriptions that take only the routing keys that match a pattern. */
  readonly routingFilter: Capability;
  /** A delivery is the consumer's for a limited time, which the engine extends while the handler runs. */
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
