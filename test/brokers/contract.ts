/** How a test broker came to be: by a URL given, in a container, or as a process of this machine. */
export type BrokerOrigin = "url" | "docker" | "native";

/** Which of them may be tried when no URL is given; `auto` tries Docker, then native. */
export type BrokerMode = "auto" | "docker" | "native";

/**
 * What fault cases do to a broker that this run started. Data and ports are the same afterwards. All of them may be
 * called from any process of the run; each resolves when the effect has been seen, not merely asked for.
 */
export interface BrokerControls {
  /** Stops it in good order and starts it again; resolves when it takes connections. */
  restart(): Promise<void>;
  /** Ends it as a power cut would (SIGKILL); resolves when it is gone. */
  kill(): Promise<void>;
  /** Starts it after `kill`, if it does not run; resolves when it takes connections. */
  start(): Promise<void>;
  /** Freezes it: connections stay open and nothing answers. */
  pause(): Promise<void>;
  /** Thaws it after `pause`. */
  resume(): Promise<void>;
}

/** What every test broker offers, whatever its kind. */
export interface RunningBroker {
  /** The broker's name in lower case: `rabbitmq`. */
  readonly name: string;
  readonly url: string;
  readonly version: string;
  readonly how: BrokerOrigin;
  /** Undefined for a broker given by URL: it is not ours to stop. Cases that need controls are then NOT RUN. */
  readonly controls: BrokerControls | undefined;
  /**
   * Ends the broker and removes its data, where it was started here; otherwise does nothing. A second call does nothing.
   * A run that dies without calling it leaves nothing behind either: a guard process cleans up.
   */
  stop(): Promise<void>;
}

/** A broker that can be had in none of the ways that were allowed. */
export class BrokerUnavailable extends Error {
  override readonly name = "BrokerUnavailable";
  /** Each way that was tried, and why it failed. */
  readonly reasons: string;

  constructor(broker: string, reasons: string) {
    super(`${broker} is not available. ${reasons}`);
    this.reasons = reasons;
  }
}

/** What the global set-up hands to the test processes: the record of a running broker, or why there is none. */
export type ProvidedBroker<Record> =
  | { readonly status: "running"; readonly record: Record }
  | { readonly status: "not-run"; readonly reason: string };
