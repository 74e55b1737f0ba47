// Two events, and two services that hear of each: every subscription gets its own copy. BROKER_URL says which broker;
// without it everything is in this process.
import { createBroker, topic } from "anybroker";
import { fromUrl } from "anybroker/url";

const placed = topic<{ readonly orderId: string }>("pub-sub.order-placed");
const broker = createBroker(await fromUrl(process.env.BROKER_URL || "memory:"));

const done = new Set<string>();
const finished = Promise.withResolvers<void>();
function say(line: string): void {
  console.log(line);
  done.add(line);
  if (done.size === 4) finished.resolve();
}

broker.subscribe(placed, "billing", ({ orderId }) => say(`billing: an invoice for ${orderId}`));
broker.subscribe(placed, "warehouse", ({ orderId }) => say(`warehouse: a parcel for ${orderId}`));

await broker.start(); // from here on the subscriptions miss no event, even while nobody runs
await broker.publish(placed, { orderId: "o-1" });
await broker.publish(placed, { orderId: "o-2" });
await finished.promise;
await broker.stop();
