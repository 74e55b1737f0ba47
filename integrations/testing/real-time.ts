// Taken when the module is loaded: a runner's fake timers, which replace the global ones, must not stop the kit. From the
// modules of Node, since a runner may have replaced the global ones before this one is loaded.
import { performance } from "node:perf_hooks";
import * as timers from "node:timers";

const { setImmediate, setTimeout } = timers;
const monotonic = performance.now.bind(performance);

/** Milliseconds of the machine's own monotonic clock. */
export function realNow(): number {
  return monotonic();
}

/** Lets everything run that is ready: all promises, and what I/O has brought. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Waits in real time. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
