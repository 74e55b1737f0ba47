import type { Broker } from "../../core/index.ts";
import { pause, realNow, turn } from "./real-time.ts";
import type { TestClock } from "./test-clock.ts";

/** Stops brokers: what runs and what is being sent has so long, in real time, to come to its end. */
export async function closeBrokers(brokers: readonly Broker[], clock: TestClock, timeoutMs: number): Promise<void> {
  const deadline = realNow() + timeoutMs;
  for (let looks = 0; brokers.some(isAtWork) && realNow() < deadline; looks++) await (looks < 50 ? turn() : pause(5));
  // The deadlines of a stop are the brokers' clock's.
  await clock.passUntil(Promise.all(brokers.map((broker) => broker.stop({ timeoutMs: 0 }))));
}

function isAtWork(broker: Broker): boolean {
  const { state, publishing, consumers } = broker.status();
  if (state !== "started") return false;
  return publishing.messages > 0 || consumers.some(({ running }) => running > 0);
}
