import { expect } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import type { BrokerOptions } from "../../../core/options.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";

/** The in-process broker on time that moves only when told to. */
export interface VirtualWorld {
  readonly time: VirtualTime;
  readonly clock: ProcessClock;
  readonly random: Prng;
  readonly broker: Broker;
  /** Another broker object on the same queues. */
  another(options?: BrokerOptions): Broker;
  /** What a handler waits with. */
  sleep(ms: number): Promise<void>;
  /** Lets so much time pass; for the test itself. */
  pass(ms: number): Promise<void>;
  /** Lets time pass until the promise has settled, and returns what it resolved with. */
  finish<T>(promise: Promise<T>): Promise<T>;
  /** Lets time pass until the condition holds; fails if that takes more than an hour. */
  until(condition: () => boolean): Promise<void>;
}

export function virtualWorld(seed: string, options: BrokerOptions = {}): VirtualWorld {
  const time = new VirtualTime();
  const clock = new ProcessClock(time);
  const random = new Prng(seed);
  const space = memorySpace({ clock });
  const another = (own: BrokerOptions = {}): Broker =>
    createBroker(memory({ space, clock }), { clock, random, ...own });
  const until = async (condition: () => boolean): Promise<void> => {
    expect(await time.until(condition, time.now + 3_600_000)).toBe(true);
  };
  return {
    time,
    clock,
    random,
    broker: another(options),
    another,
    until,
    sleep: (ms) => new Promise((resolve) => clock.schedule(resolve, ms)),
    async pass(ms) {
      let over = false;
      clock.schedule(() => {
        over = true;
      }, ms);
      expect(await time.until(() => over, time.now + ms + 1)).toBe(true);
    },
    async finish(promise) {
      let over = false;
      const end = (): void => {
        over = true;
      };
      promise.then(end, end);
      await until(() => over);
      return promise;
    },
  };
}
