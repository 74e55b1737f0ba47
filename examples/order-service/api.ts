import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Placing } from "./books.ts";
import { Order } from "./orders.ts";

const MAX_BYTES = 10_000;

/** What each end is in HTTP. To place an order again is answered 200: a client whose answer was lost may ask until it has one. */
const STATUS = Object.freeze({ placed: 201, there: 200, other: 409, refused: 402 });

/** The HTTP API: `PUT /orders/{id}` with the customer and the cents places an order. */
export function orderApi(place: (order: Order) => Promise<Placing>): Hono {
  const api = new Hono();
  const limit = bodyLimit({
    maxSize: MAX_BYTES,
    onError: (context) => context.json({ problem: "this is too large for an order" }, 413),
  });
  api.put("/orders/:id", limit, async (context) => {
    const body: unknown = await context.req.json().catch(() => undefined);
    const order = Order.safeParse({ ...(body as object | undefined), id: context.req.param("id") });
    if (!order.success) return context.json({ problem: "this is no order" }, 400);
    const placing = await place(order.data);
    return context.json({ id: order.data.id, placing }, STATUS[placing]);
  });
  // Whether it was committed is not known: the client asks again.
  api.onError((_error, context) => context.json({ problem: "the order may or may not be placed; ask again" }, 503));
  return api;
}
