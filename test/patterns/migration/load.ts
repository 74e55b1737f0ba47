import type { Instance, World } from "./world.ts";

export const CUSTOMERS = ["ada", "ben", "cleo", "dan", "eve", "finn", "gus", "hana", "ivy", "jo", "kim", "leo"];

/** Sells in a loop for each customer, at whichever instance lives, until the function that it returns is called. */
export function load(world: World, alive: () => readonly Instance[], pauseMs = 10): () => Promise<void> {
  let over = false;
  const one = async (customer: string): Promise<void> => {
    while (!over) {
      const at = (): Instance["broker"] => {
        const all = alive();
        return (all[Math.floor(Math.random() * all.length)] as Instance).broker;
      };
      await world.sell(at, customer);
      await new Promise((resolve) => setTimeout(resolve, Math.random() * pauseMs));
    }
  };
  const running = CUSTOMERS.map(one);
  return async () => {
    over = true;
    await Promise.all(running);
  };
}

/** A service of so many instances, of which one after another is killed and replaced. */
export class Fleet {
  readonly #world: World;
  readonly #instances: Instance[] = [];
  #over = false;
  #killing: Promise<void> = Promise.resolve();
  kills = 0;

  constructor(world: World) {
    this.#world = world;
  }

  get alive(): readonly Instance[] {
    return this.#instances;
  }

  async start(count: number): Promise<void> {
    for (let index = 0; index < count; index++) this.#instances.push(await this.#world.started());
  }

  /** Kills one at random and starts another in its place, again and again. */
  terrorize(everyMs: number): void {
    this.#killing = (async () => {
      while (!this.#over) {
        await new Promise((resolve) => setTimeout(resolve, everyMs * (0.5 + Math.random())));
        if (!this.#over) await this.killOne();
      }
    })();
  }

  async killOne(): Promise<void> {
    const at = Math.floor(Math.random() * this.#instances.length);
    const next = await this.#world.started();
    const [victim] = this.#instances.splice(at, 1, next);
    this.kills++;
    await victim?.kill();
  }

  async calm(): Promise<void> {
    this.#over = true;
    await this.#killing;
  }
}
