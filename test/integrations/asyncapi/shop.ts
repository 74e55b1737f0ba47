import { toStandardJsonSchema } from "@valibot/to-json-schema";
import { bytesCodec, type Destination, queue, subscription, topic } from "anybroker";
import { type } from "arktype";
import * as v from "valibot";
import { z } from "zod";

const Category = z.object({
  name: z.string(),
  get children() {
    return z.array(Category);
  },
});

const Order = z.object({ id: z.string(), total: z.number().default(1), placedAt: z.iso.datetime() });

export const orders = queue("orders", { schema: Order, ttlMs: 60_000 });
export const placed = topic("order.placed", {
  schema: type({ orderId: "string", "note?": "string" }),
  key: ({ orderId }) => orderId,
  ordered: true,
});

/** A topic may have the name of a queue, though not on Kafka, where either is a topic. */
export const namesake = topic("orders", {
  schema: z.object({ why: z.literal(["lost", "found"]) }),
  routingKey: ({ why }) => why,
});

/** Declarations with schemas of every kind. */
export const shop: readonly Destination[] = [
  orders,
  queue("categories", { schema: Category }),
  queue("dated", { schema: z.object({ at: z.date() }) }),
  queue("mails", { schema: toStandardJsonSchema(v.object({ to: v.string() })) }),
  queue("letters", { schema: v.object({ to: v.string() }) }),
  queue<{ id: string }>("untold"),
  queue<Uint8Array>("images", { codec: bytesCodec }),
  placed,
  subscription(placed, "billing", { filter: "geo.us.#" }),
  subscription(placed, "audit"),
];

export const info = { title: "Shop", version: "1.0.0" };
