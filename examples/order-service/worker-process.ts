// The program of a part of the service in a process of its own.
import { writeFileSync } from "node:fs";
import { memorySpace } from "anybroker/memory";
import { adapterFromUrl } from "../shared/broker-from-url.ts";
import { workAsProcess } from "../shared/worker-process.ts";
import { startBilling } from "./billing.ts";
import type { Job } from "./job.ts";
import { startShop } from "./shop.ts";

await workAsProcess<Job>(async (job) => {
  const adapter = await adapterFromUrl(process.env.BROKER_URL, memorySpace());
  if (job.role === "billing") return startBilling(adapter, job);
  const shop = await startShop(adapter, job);
  writeFileSync(job.urlFile, shop.url);
  return shop;
});
