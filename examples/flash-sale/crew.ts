import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Adapter } from "anybroker";
import type { Role } from "./ledger.ts";
import { type Job, startWorker } from "./worker.ts";

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

type Hire = (role: Role) => Promise<Worker>;

const PROGRAM = fileURLToPath(new URL("worker-process.ts", import.meta.url));
const HIRE_AGAIN_MS = 500;
const HIRE_WITHIN_MS = 120_000;

/** Hires workers that are processes of their own. */
export function processes(job: Omit<Job, "role">): Hire {
  return async (role) => {
    const child = fork(PROGRAM, [JSON.stringify({ ...job, role })]);
    const ended = once(child, "exit");
    const ready = once(child, "message");
    await Promise.race([ready, ended.then(() => Promise.reject(new Error(`${role}: a worker could not start`)))]);
    return {
      name: `process ${child.pid}`,
      ended,
      async kill() {
        child.kill("SIGKILL");
        await ended;
        return "SIGKILL, in the middle of its work";
      },
      async stop() {
        if (child.connected) child.send("stop");
        await ended;
      },
    };
  };
}

/** Hires workers in this process, each with a broker object of its own on the space that they share. */
export function inProcess(job: Omit<Job, "role">, newAdapter: () => Promise<Adapter>): Hire {
  let hired = 0;
  return async (role) => {
    const adapter = await newAdapter();
    const broker = await startWorker(adapter, { ...job, role });
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    return {
      name: `in-process worker ${++hired}`,
      ended,
      async kill() {
        // One process cannot kill a part of itself. This comes closest: the connection goes first, under the running
        // handlers, so that nothing they still do is settled; then they are aborted.
        await adapter.close();
        await broker.stop({ timeoutMs: 0 });
        end();
        return "not a SIGKILL, which would end everything here: its connection was closed under its running handlers";
      },
      async stop() {
        await broker.stop();
        end();
      },
    };
  };
}

/** Workers, each replaced by another when it ends before its time. */
export class Crew {
  readonly #hire: Hire;
  readonly #say: (line: string) => void;
  readonly #workers = new Map<Worker, Role>();
  readonly #posts: Promise<void>[] = [];
  #closing = false;

  constructor(hire: Hire, say: (line: string) => void) {
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

  /** Kills one worker of a role. */
  async killOne(role: Role): Promise<void> {
    const [worker] = [...this.#workers].find(([, of]) => of === role) ?? [];
    if (worker === undefined) return;
    const what = await worker.kill();
    this.#say(`${role}: ${worker.name} was killed (${what})`);
  }

  /** Lets all of them finish. */
  async stop(): Promise<void> {
    this.#closing = true;
    await Promise.all([...this.#workers.keys()].map((worker) => worker.stop()));
    await Promise.all(this.#posts);
  }
}
