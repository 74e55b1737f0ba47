import type { Adapter } from "../core/adapter.ts";

/** How a worker process makes an adapter on the same broker. */
export interface ProcessAdapter {
  /** The URL of a module that exports `createAdapter(options): Adapter`. */
  readonly module: string;
  /** Its argument, sent as JSON. */
  readonly options: unknown;
}

/** A client of the broker without anybroker. */
export interface ForeignSender {
  /**
   * Sends a JSON message to the anybroker queue of that name, with every property that the broker has for messages.
   * Resolves with these properties, as data.
   */
  send(queue: string): Promise<unknown>;
  /** Reads the same properties from a delivery's native message, without those of the delivery or of copies. */
  read(native: unknown): unknown;
}

/** What the suite needs of an adapter and its broker. A case whose member is missing is reported as `not-run`. */
export interface Harness {
  /** The adapter's name in the table of results. */
  readonly name: string;
  /** A new, unopened adapter on the broker under test. Each represents a process. */
  adapter(): Adapter;
  /** The prefix of all names, for a shared broker. Default: none. */
  readonly namePrefix?: string;
  /** For cases that kill processes. */
  readonly processes?: ProcessAdapter;
  /** Restarts the broker in good order and keeps its data. Resolves when it accepts connections. */
  readonly restart?: () => Promise<void>;
  /** Kills the broker as a power cut does, and starts it. Resolves when it accepts connections. */
  readonly kill?: () => Promise<void>;
  /** The name of the emulator, if it replaces the broker. Shown with each result. */
  readonly emulator?: string;
  /** How long the broker waits for a heartbeat until it drops a consumer, in milliseconds. Handlers can run longer. */
  readonly sessionMs?: number;
  /** The longest that a consumer may hold a delivery, in milliseconds, and an adapter on a broker with that limit. */
  readonly holding?: { readonly longestMs: number; adapter(): Adapter };
  /** An adapter with short leases, for cases that outlast them. Default: `adapter`, whose leases can then be long. */
  readonly leasing?: () => Adapter;
  /** How long the broker may deliver to a consumer that died, in milliseconds. */
  readonly abandonedMs?: number;
  /** Why restarts cannot be tested: the emulator loses messages. */
  readonly losesInRestarts?: string;
  /** Why there are no topics. Cases about topics are not applicable then. */
  readonly withoutTopics?: string;
  /** Why bodies cannot have characters beyond U+FFFF. */
  readonly withoutSupplementaryCharacters?: string;
  /** Why the broker confirms an event without a subscription. */
  readonly cannotTellUnroutable?: string;
  /** Why the broker cannot move a message to the dead letters without a copy. Such messages are parked. */
  readonly withoutOwnDeadLettering?: string;
  /** Why there is no native message: the adapter uses no client library. */
  readonly noNative?: string;
  /** A raw client, for the case about foreign properties. */
  readonly foreign?: ForeignSender;
  /**
   * The names of all queues, topics, subscriptions and groups on the broker. On a shared broker: those with `namePrefix`,
   * and those that the broker or the adapter generated.
   */
  readonly existing?: () => Promise<readonly string[]>;
  /** The longest wait for one condition, in milliseconds. Default 60,000. */
  readonly patienceMs?: number;
  /** The longest wait for recovery after a restart of the broker, in milliseconds. Default 180,000. */
  readonly recoveryMs?: number;
}
