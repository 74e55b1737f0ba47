// Three workers with one queue: each photo is resized by one of them, and again if that failed. BROKER_URL says which
// broker; without it everything is in this process.
import { setTimeout as sleep } from "node:timers/promises";
import { createBroker, queue } from "anybroker";
import { fromUrl } from "anybroker/url";

const photos = queue<{ readonly name: string }>("work-queue.photos");
const broker = createBroker(await fromUrl(process.env.BROKER_URL || "memory:"));

const left = new Set(["beach", "bridge", "castle", "forest", "harbour", "tower"]);
const finished = Promise.withResolvers<void>();

for (const worker of [1, 2, 3]) {
  broker.consume(
    photos,
    async ({ name }, { attempt }) => {
      await sleep(100); // the work
      if (name === "castle" && attempt < 3) throw new Error("out of memory");
      console.log(`worker ${worker}: ${name}, attempt ${attempt}`);
      left.delete(name);
      if (left.size === 0) finished.resolve();
    },
    { concurrency: 1, retry: { attempts: 5, delay: { firstMs: 200 } } },
  );
}

await broker.start();
await Promise.all([...left].map((name) => broker.send(photos, { name })));
await finished.promise;
await broker.stop();
