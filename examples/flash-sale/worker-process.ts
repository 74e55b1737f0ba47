// The program of a worker in a process of its own.
import { memorySpace } from "anybroker/memory";
import { adapterFromUrl } from "../shared/broker-from-url.ts";
import { workAsProcess } from "../shared/worker-process.ts";
import { type Job, startWorker } from "./worker.ts";

await workAsProcess<Job>(async (job) => startWorker(await adapterFromUrl(process.env.BROKER_URL, memorySpace()), job));
