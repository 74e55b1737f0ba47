const READY = Promise.resolve();

/**
 * Runs a function when everything that runs now has run, as `queueMicrotask` does. Fake timers of test runners replace that
 * one, and leave promises alone. The function must not throw.
 */
export function afterCurrentTurn(run: () => void): void {
  void READY.then(run);
}
