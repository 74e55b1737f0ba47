// The program of a part of the service in a process of its own.
import { writeFileSync } from "node:fs";
import { fromUrl } from "anybroker/url";
import { SOON_MISSED } from "../shared/soon-missed.ts";
import { workAsProcess } from "../shared/worker-process.ts";
import { startBilling } from "./billing.ts";
import type { Job } from "./job.ts";
import { startShop } from "./shop.ts";

await workAsProcess<Job>(async (job) => {
  const adapter = await fromUrl(process.env.BROKER_URL, SOON_MISSED);
  if (job.role === "billing") return startBilling(adapter, job);
  const shop = await startShop(adapter, job);
  writeFileSync(job.urlFile, shop.url);
  return shop;
});
