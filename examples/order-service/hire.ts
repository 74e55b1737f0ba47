import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Adapter } from "anybroker";
import type { Hire, Worker } from "../shared/crew.ts";
import { hireProcess } from "../shared/worker-process.ts";
import { startBilling } from "./billing.ts";
import type { Job, Role } from "./job.ts";
import { startShop } from "./shop.ts";

const PROGRAM = new URL("worker-process.ts", import.meta.url);

type Task = Omit<Job, "role" | "urlFile">;

/** Hires parts of the service that are processes of their own. `shops` is kept to the URLs of the shops that serve. */
export function processes(task: Task, folder: string, shops: Set<string>): Hire<Role> {
  return async (role) => {
    const job: Job = { ...task, role, urlFile: `${folder}/${randomUUID()}` };
    const worker = await hireProcess(PROGRAM, job);
    if (role === "shop") list(readFileSync(job.urlFile, "utf8"), worker, shops);
    return worker;
  };
}

/** Hires parts in this process, each with connections of its own. */
export function inProcess(task: Task, newAdapter: () => Promise<Adapter>, shops: Set<string>): Hire<Role> {
  let hired = 0;
  return async (role) => {
    const adapter = await newAdapter();
    const job: Job = { ...task, role, urlFile: "" };
    const shop = role === "shop" ? await startShop(adapter, job) : undefined;
    const part = shop ?? (await startBilling(adapter, job));
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const worker: Worker = {
      name: `in-process worker ${++hired}`,
      ended,
      async kill() {
        // One process cannot kill a part of itself. This comes closest: its connections go under whatever it is doing.
        await part.cutOff();
        end();
        return "not a SIGKILL, which would end everything here: all its connections were closed in the middle of its work";
      },
      async stop() {
        await part.stop();
        end();
      },
    };
    if (shop !== undefined) list(shop.url, worker, shops);
    return worker;
  };
}

/** What a load balancer does: a shop is on the list while it is there. */
function list(url: string, worker: Worker, shops: Set<string>): void {
  shops.add(url);
  void worker.ended.then(() => shops.delete(url));
}
