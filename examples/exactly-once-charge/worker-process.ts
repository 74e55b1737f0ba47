// The program of a worker in a process of its own.
import { memorySpace } from "anybroker/memory";
import { adapterFromUrl } from "../shared/broker-from-url.ts";
import { workAsProcess } from "../shared/worker-process.ts";
import { type Job, startWorker } from "./worker.ts";

await workAsProcess<Job>(async (job) => {
  const adapter = await adapterFromUrl(process.env.BROKER_URL, memorySpace());
  return startWorker(adapter, job, `process ${process.pid}`);
});
