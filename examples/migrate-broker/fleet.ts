import { setTimeout as sleep } from "node:timers/promises";
import type { Migration } from "anybroker/migration";
import { type Instance, type Leg, startInstance } from "./shop.ts";

/** The instances of the service, of which one at random is cut off now and then, and replaced. */
export class Fleet {
  readonly #instances: Instance[] = [];
  #leg: Leg;
  #over = false;
  #harm: Promise<void> = Promise.resolve();
  /** One thing at a time happens to them. */
  #turn: Promise<unknown> = Promise.resolve();
  cuts = 0;

  constructor(leg: Leg) {
    this.#leg = leg;
  }

  async start(count: number): Promise<void> {
    for (let index = 0; index < count; index++) this.#instances.push(await started(this.#leg));
  }

  /** Any of them. */
  readonly any = (): Migration => {
    const at = Math.floor(Math.random() * this.#instances.length);
    return (this.#instances[at] as Instance).broker;
  };

  /** Cuts one off every so often. */
  harm(everyMs: number): void {
    this.#harm = (async () => {
      while (!this.#over) {
        await sleep(everyMs * (0.5 + Math.random()));
        if (!this.#over) await this.cutOne();
      }
    })();
  }

  async cutOne(): Promise<void> {
    await this.#inTurn(async () => {
      const next = await started(this.#leg);
      const [victim] = this.#instances.splice(Math.floor(Math.random() * this.#instances.length), 1, next);
      this.cuts++;
      await victim?.cutOff();
    });
  }

  /** A rolling deployment: each instance is replaced by one of the next leg, and finishes its work. */
  async deploy(leg: Leg): Promise<void> {
    await this.#inTurn(async () => {
      this.#leg = leg;
      for (let index = 0; index < this.#instances.length; index++) {
        const [old] = this.#instances.splice(index, 1, await started(leg));
        await old?.stop();
      }
    });
  }

  async calm(): Promise<void> {
    this.#over = true;
    await this.#harm;
  }

  async stop(): Promise<void> {
    await this.calm();
    await Promise.all(this.#instances.map((instance) => instance.stop()));
  }

  #inTurn(run: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(run);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

const PATIENCE_MS = 120_000;

/** A start tells what is wrong, once; a service that is to outlast a broker that is busy tries again, as its supervisor would. */
async function started(leg: Leg): Promise<Instance> {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await startInstance(leg);
    } catch (error) {
      if (Date.now() > end) throw error;
      await sleep(1_000);
    }
  }
}
