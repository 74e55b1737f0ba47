import type { Broker } from "../../core/index.ts";
import { pause, realNow, turn } from "./real-time.ts";
import { type TestClock, VirtualClock } from "./test-clock.ts";

/** Stops brokers: what runs and what is being sent has so long, in real time, to come to its end. */
export async function closeBrokers(brokers: readonly Broker[], clock: TestClock, timeoutMs: number): Promise<void> {
  const deadline = realNow() + timeoutMs;
  for (let looks = 0; brokers.some(isAtWork) && realNow() < deadline; looks++) await (looks < 50 ? turn() : pause(5));
  let stopped = false;
  const stopping = Promise.all(brokers.map((broker) => broker.stop({ timeoutMs: 0 }))).finally(() => {
    stopped = true;
  });
  stopping.catch(() => {});
  // The deadlines of a stop are the virtual clock's.
  while (clock instanceof VirtualClock && !stopped) {
    await turn();
    if (!stopped) clock.step();
  }
  await stopping;
}

function isAtWork(broker: Broker): boolean {
  const { state, publishing, consumers } = broker.status();
  if (state !== "started") return false;
  return publishing.messages > 0 || consumers.some(({ running }) => running > 0);
}
