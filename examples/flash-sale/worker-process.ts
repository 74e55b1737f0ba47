// The program of a worker in a process of its own: told its job by its argument, and to stop by a message.
import { memorySpace } from "anybroker/memory";
import { adapterFromUrl } from "./broker-from-url.ts";
import { type Job, startWorker } from "./worker.ts";

const job = JSON.parse(process.argv[2] ?? "") as Job;
// Whoever started it is gone.
process.once("disconnect", () => process.exit(1));

const adapter = await adapterFromUrl(process.env.BROKER_URL, memorySpace());
const broker = await startWorker(adapter, job).catch((error: unknown) => {
  console.error(`${job.role}: a worker could not start, another one will. ${error}`);
  process.exit(1);
});
process.once("message", async () => {
  await broker.stop();
  process.exit(0);
});
process.send?.("ready");
