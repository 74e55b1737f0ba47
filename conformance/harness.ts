import type { Adapter } from "../core/adapter.ts";

/** How another process makes an adapter onto the same broker. */
export interface ProcessAdapter {
  /** The URL of a module that exports `createAdapter(options): Adapter`. */
  readonly module: string;
  /** What it is called with; travels as JSON. */
  readonly options: unknown;
}

/** A client of the broker that knows nothing of anybroker. */
export interface ForeignSender {
  /**
   * Sends a message of JSON to the queue that stands for one of anybroker's, which has that name, with everything that the
   * broker has for messages, and resolves with that, as data.
   */
  send(queue: string): Promise<unknown>;
  /** The same as another client would find it on a delivery, by its native message: nothing of the delivery, nor of copies. */
  read(native: unknown): unknown;
}

/**
 * What the suite needs to know of an adapter and its broker. What is left out makes the cases that need it `not-run`,
 * which is said loudly; nothing is passed over in silence.
 */
export interface Harness {
  /** The adapter's name in the table of results. */
  readonly name: string;
  /** A fresh adapter object, not opened, onto the one broker under test. Each stands for a process of its own. */
  adapter(): Adapter;
  /** What the names of all queues and topics begin with, where the broker is shared. Default: nothing. */
  readonly namePrefix?: string;
  /** For cases that need processes which can be killed. */
  readonly processes?: ProcessAdapter;
  /** Stops the broker in good order and starts it again, its data kept; resolves when it takes connections. */
  readonly restart?: () => Promise<void>;
  /** Ends the broker as a power cut would and starts it again; resolves when it takes connections. */
  readonly kill?: () => Promise<void>;
  /** Which emulator stands in for the broker, if one does; the results name it. */
  readonly emulator?: string;
  /**
   * How long the broker waits for a sign of life before it takes a consumer for dead, in milliseconds, where it does so
   * at all: a handler must be able to run longer than this.
   */
  readonly sessionMs?: number;
  /** An adapter of whose broker a consumer may hold a delivery no longer than so many milliseconds, where there is a limit. */
  readonly holding?: { readonly longestMs: number; adapter(): Adapter };
  /**
   * An adapter with short leases, for cases that outlast them or let them run out, where those of `adapter` are long so that
   * a busy machine loses none. Default: `adapter`.
   */
  readonly leasing?: () => Adapter;
  /**
   * For how long the broker may hand messages to a consumer that died without a word, and count that against them, in
   * milliseconds, where it does so at all.
   */
  readonly abandonedMs?: number;
  /** Why a restart proves nothing, where an emulator itself loses messages in it. */
  readonly losesInRestarts?: string;
  /** Why there are no topics, where an emulator lacks them; the cases that are about them are not applicable on it. */
  readonly withoutTopics?: string;
  /** Why no body may hold characters beyond U+FFFF, where an emulator refuses them. */
  readonly withoutSupplementaryCharacters?: string;
  /** Why an event that no subscription takes is kept or confirmed, where the broker cannot tell. */
  readonly cannotTellUnroutable?: string;
  /** Why a body of any size cannot be moved to the dead letters without a copy: it is parked then. */
  readonly withoutOwnDeadLettering?: string;
  /** Why there is no native message, where the adapter stands on no client library. */
  readonly noNative?: string;
  /** Other senders, for the case about what copies keep of theirs. */
  readonly foreign?: ForeignSender;
  /**
   * The names of everything that exists on the broker: queues, topics, subscriptions, groups. Where the broker is shared,
   * those that hold `namePrefix`, and those that nobody named.
   */
  readonly existing?: () => Promise<readonly string[]>;
  /** How long any one condition is waited for, in milliseconds. Default 60,000. */
  readonly patienceMs?: number;
  /** How long everything may take to come back after a restart of the broker, in milliseconds. Default 180,000. */
  readonly recoveryMs?: number;
}
