import { setTimeout as sleep } from "node:timers/promises";

export interface Worker {
  /** What the worker is, for people: `process 4711`. */
  readonly name: string;
  /** Ends it in the middle of its work. The result says what was done to it. */
  kill(): Promise<string>;
  /** Lets it finish what it has begun. */
  stop(): Promise<void>;
  /** Resolves when it is gone, for whatever reason. */
  readonly ended: Promise<unknown>;
}

/** Gets a worker for a role; resolves when it works, rejects if it could not start. */
export type Hire<Role extends string> = (role: Role) => Promise<Worker>;

const HIRE_AGAIN_MS = 500;
const HIRE_WITHIN_MS = 120_000;

/** Workers, each replaced by another when it ends before its time. */
export class Crew<Role extends string> {
  readonly #hire: Hire<Role>;
  readonly #say: (line: string) => void;
  readonly #workers = new Map<Worker, Role>();
  readonly #posts: Promise<void>[] = [];
  #closing = false;

  constructor(hire: Hire<Role>, say: (line: string) => void) {
    this.#hire = hire;
    this.#say = say;
  }

  /** Hires so many, and replaces those that end. Resolves when all of them work; rejects if that cannot be had. */
  async start(role: Role, count: number): Promise<void> {
    const workers = await Promise.all(Array.from({ length: count }, () => this.#hireAnyhow(role)));
    for (const worker of workers) if (worker !== undefined) this.#posts.push(this.#keep(role, worker));
  }

  async #keep(role: Role, first: Worker): Promise<void> {
    let worker = first;
    for (;;) {
      this.#workers.set(worker, role);
      // Hired while the others were told to stop.
      if (this.#closing) await worker.stop();
      await worker.ended;
      this.#workers.delete(worker);
      if (this.#closing) return;
      const next = await this.#hireAnyhow(role);
      if (next === undefined) return;
      this.#say(`${role}: ${worker.name} is gone, ${next.name} takes its place`);
      worker = next;
    }
  }

  /** Tries again for a while, because the broker may be away just now. Undefined if there is nothing more to do. */
  async #hireAnyhow(role: Role): Promise<Worker | undefined> {
    const deadline = performance.now() + HIRE_WITHIN_MS;
    while (!this.#closing) {
      try {
        return await this.#hire(role);
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(HIRE_AGAIN_MS);
      }
    }
    return undefined;
  }

  /** Kills the worker of a role that has worked longest. Resolves with its name; undefined if there is none just now. */
  async killOne(role: Role): Promise<string | undefined> {
    const [worker] = [...this.#workers].find(([, of]) => of === role) ?? [];
    if (worker === undefined) return undefined;
    const what = await worker.kill();
    this.#say(`${role}: ${worker.name} was killed (${what})`);
    return worker.name;
  }

  /** Lets all of them finish. */
  async stop(): Promise<void> {
    this.#closing = true;
    await Promise.all([...this.#workers.keys()].map((worker) => worker.stop()));
    await Promise.all(this.#posts);
  }
}
