import { expect } from "vitest";
import type { OutgoingMessage } from "../../core/adapter.ts";
import type { Address } from "../../core/address.ts";
import { createBroker } from "../../core/create-broker.ts";
import { MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import type { BrokerOptions } from "../../core/options.ts";
import { Prng } from "../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../simulation/virtual-time.ts";
import { RecordingAdapter } from "./recording-adapter.ts";

export const HOUR_MS = 3_600_000;

/** Headers as a broker hands them in. */
export function headers(own: Record<string, string>): Record<string, string> {
  return Object.assign(Object.create(null), own);
}

/** A broker whose adapter refuses what a test says. */
export function refusingWorld(options: BrokerOptions = {}) {
  const time = new VirtualTime();
  const clock = new ProcessClock(time);
  const adapter = new RecordingAdapter();
  const events: BrokerEvent[] = [];
  const broker = createBroker(adapter, {
    clock,
    random: new Prng("refused copies"),
    onEvent: (event) => events.push(event),
    ...options,
  });
  /** Refuses everything that is sent to an address of this kind. */
  const refuse = (kind: Address["kind"], code: MessagingErrorCode): void => {
    adapter.refusal = (to) => (to.kind === kind ? new MessagingError(code, "refused by the test") : undefined);
  };
  const sentTo = (kind: Address["kind"]): OutgoingMessage[] =>
    adapter.handed.filter(({ to }) => to.kind === kind).flatMap(({ batch }) => batch);
  const opened = () => {
    const found = adapter.opened.at(-1);
    if (found === undefined) throw new Error("nothing was opened");
    return found;
  };
  const until = async (what: string, condition: () => boolean, withinMs = HOUR_MS): Promise<void> => {
    expect(await time.until(condition, time.now + withinMs), what).toBe(true);
  };
  const pass = (ms: number): Promise<boolean> => time.until(() => false, time.now + ms);
  const finish = async (promise: Promise<unknown>): Promise<void> => {
    let done = false;
    promise.finally(() => {
      done = true;
    });
    await until("it to end", () => done);
    await promise;
  };
  const eventsOf = (type: BrokerEvent["type"]) => events.filter((event) => event.type === type);
  return { time, clock, adapter, broker, refuse, sentTo, opened, until, pass, finish, eventsOf };
}
