// Taken when the module is loaded: a runner's fake timers, which replace the global ones, must not stop the kit.
import { setImmediate, setTimeout } from "node:timers";

const { bigint: hrtime } = process.hrtime;

/** Milliseconds of the machine's own monotonic clock. */
export function realNow(): number {
  return Number(hrtime() / 1_000_000n);
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
