import * as timers from "node:timers";

/** Taken once: fake timers of a test runner must not stop it. */
const { setImmediate } = timers;

/** So many containers are made between two turns: some milliseconds, and less than a megabyte. */
const MADE_BETWEEN = 50;

/**
 * Has the event loop turn now and then. inversify knows a child by a weak reference, and what such a reference was made of
 * in a turn is not freed before its end; handlers that wait for nothing would hold all their containers, and the loop.
 */
export class LoopTurns {
  #made = 0;
  #turn: Promise<void> | undefined;

  /** Before each container: what to wait for, if anything. */
  next(): Promise<void> | undefined {
    this.#made++;
    if (this.#made <= MADE_BETWEEN) return undefined;
    this.#turn ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#made = 0;
        this.#turn = undefined;
        resolve();
      });
    });
    return this.#turn;
  }
}
