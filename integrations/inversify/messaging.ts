import type { Container } from "inversify";
import { type BrokerStatus, MessagingError, type StartOptions, type StopOptions } from "../../core/index.ts";
import { startFailed } from "../../core/start.ts";
import { MESSAGING } from "./identifiers.ts";

/** Owns the lives of a container's brokers and handlers. Made by `messagingModule`, injected as `MESSAGING`. */
export interface Messaging {
  /**
   * Starts all brokers; handlers are given messages when every one of them stands. Rejects with `start-failed`, whose
   * `problems` lists everything found at once, and leaves nothing open: first what is wrong with the handlers, before
   * anything is connected, then what is wrong with the brokers. A second call while started does nothing, but for a
   * rejection if handlers were bound meanwhile, which would get no message; after `stop` it starts again. The options are
   * those of `Broker.start`.
   */
  start(options?: StartOptions): Promise<void>;
  /**
   * Stops taking messages on all brokers, lets running handlers finish and settles their messages, while all of them can
   * still publish to any broker; then waits for the confirms and closes. A second call waits for the first. Handlers that
   * go on past the deadline are aborted, and their messages given back. Throws `invalid` for wrong options.
   */
  stop(options?: StopOptions): Promise<void>;
  /** Each broker's, by name; the one without a name is `default`. Throws `invalid` before `startMessaging`. */
  status(): Readonly<Record<string, BrokerStatus>>;
}

/** A {@link Messaging} that is told its container, since inversify does not tell it. */
interface Attachable extends Messaging {
  attach(container: Container): void;
}

/**
 * Starts the messaging of a container that has loaded `messagingModule` and the modules with handlers; see
 * {@link Messaging.start}. Resolves with what `MESSAGING` injects. Rejects with `start-failed` also where the module is
 * missing: it has to be in this container itself, and not only in a parent.
 */
export async function startMessaging(container: Container, options?: StartOptions): Promise<Messaging> {
  if (!container.isCurrentBound(MESSAGING)) {
    throw refused("the container has no messaging: load messagingModule({ broker }) into it");
  }
  const [messaging, second] = container.getAll(MESSAGING) as Attachable[];
  if (messaging === undefined || second !== undefined) {
    throw refused("the container has messaging twice: load one messagingModule, with all { brokers } by their names");
  }
  messaging.attach(container);
  await messaging.start(options);
  return messaging;
}

function refused(what: string): MessagingError {
  return startFailed([new MessagingError("invalid", what)]);
}
