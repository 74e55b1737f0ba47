import type { Adapter } from "anybroker";
import type { Hire, Worker } from "../shared/crew.ts";
import { hireProcess } from "../shared/worker-process.ts";
import { journalWriter } from "./journal.ts";
import { type Job, startWorker } from "./worker.ts";

const PROGRAM = new URL("worker-process.ts", import.meta.url);

/** Hires workers that are processes of their own. */
export function processes(job: Job): Hire<"charges"> {
  return async () => obituary(job, await hireProcess(PROGRAM, job));
}

/** Hires workers in this process, each with connections of its own. */
export function inProcess(job: Job, newAdapter: () => Promise<Adapter>): Hire<"charges"> {
  let hired = 0;
  return async () => {
    const name = `in-process worker ${++hired}`;
    const worker = await startWorker(await newAdapter(), job, name);
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    return obituary(job, {
      name,
      ended,
      async kill() {
        // One process cannot kill a part of itself. This comes closest: its running handlers lose their connections, so
        // that they can neither charge nor settle nor give back their claims.
        await worker.cutOff();
        end();
        return "not a SIGKILL, which would end everything here: all its connections were closed under its handlers";
      },
      async stop() {
        await worker.stop();
        end();
      },
    });
  };
}

/** Writes down that a worker is killed before it is: whatever comes after it in the journal comes after the kill. */
function obituary({ journalFile }: Job, worker: Worker): Worker {
  const kill = (): Promise<string> => {
    journalWriter(journalFile, worker.name)("killed");
    return worker.kill();
  };
  return { ...worker, kill };
}
