import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Worker } from "./crew.ts";

/** Hires a worker that is a process of its own: the program is told the job, plain data, by its argument. */
export async function hireProcess(program: URL, job: unknown): Promise<Worker> {
  const child = fork(fileURLToPath(program), [JSON.stringify(job)]);
  const ended = once(child, "exit");
  const ready = once(child, "message");
  await Promise.race([ready, ended.then(() => Promise.reject(new Error("a worker could not start")))]);
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
}

/** The other side: all that the program of such a worker does. It works until it is told to stop, by a message. */
export async function workAsProcess<Job>(start: (job: Job) => Promise<{ stop(): Promise<void> }>): Promise<void> {
  // Whoever started it is gone.
  process.once("disconnect", () => process.exit(1));
  const job = JSON.parse(process.argv[2] ?? "") as Job;
  const worker = await start(job).catch((error: unknown) => {
    console.error(`a worker could not start, another one will: ${error}`);
    process.exit(1);
  });
  process.once("message", async () => {
    await worker.stop();
    process.exit(0);
  });
  process.send?.("ready");
}
