import type { Adapter } from "anybroker";
import type { Hire } from "../shared/crew.ts";
import { hireProcess } from "../shared/worker-process.ts";
import type { Role } from "./ledger.ts";
import { type Job, startWorker } from "./worker.ts";

const PROGRAM = new URL("worker-process.ts", import.meta.url);

/** Hires workers that are processes of their own. */
export function processes(job: Omit<Job, "role">): Hire<Role> {
  return (role) => hireProcess(PROGRAM, { ...job, role });
}

/** Hires workers in this process, each with a broker object of its own on the space that they share. */
export function inProcess(job: Omit<Job, "role">, newAdapter: () => Promise<Adapter>): Hire<Role> {
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
