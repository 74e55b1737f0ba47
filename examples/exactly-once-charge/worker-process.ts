// The program of a worker in a process of its own.
import { fromUrl } from "anybroker/url";
import { SOON_MISSED } from "../shared/soon-missed.ts";
import { workAsProcess } from "../shared/worker-process.ts";
import { type Job, startWorker } from "./worker.ts";

await workAsProcess<Job>(async (job) => {
  const adapter = await fromUrl(process.env.BROKER_URL, SOON_MISSED);
  return startWorker(adapter, job, `process ${process.pid}`);
});
