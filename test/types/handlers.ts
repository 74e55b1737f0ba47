// What handlers get and may return. Checked by `npm run typecheck`; nothing here is run.
import type { ConsumeMessage } from "amqplib";
import {
  type Broker,
  createBroker,
  type Delivery,
  deadLetter,
  type Handler,
  type Middleware,
  queue,
  retry,
  topic,
} from "anybroker";
import { idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import { memory } from "anybroker/memory";
import { rabbitmq } from "anybroker/rabbitmq";
import { z } from "zod";
import { check, type Same } from "./assertions.ts";

interface Order {
  readonly id: string;
}

const orders = queue<Order>("orders");

/** The body is the destination's, and so must be the handler's parameter. */
export function bodies(broker: Broker): void {
  broker.consume(orders, (order, delivery) => {
    check<Same<typeof order, Order>>();
    check<Same<typeof delivery, Delivery>>();
    check<Same<typeof delivery.signal, AbortSignal>>();
    check<Same<typeof delivery.key, string | undefined>>();
  });
  const other: Handler<{ readonly number: number }> = () => {};
  // @ts-expect-error a handler of other bodies
  broker.consume(orders, other);
  // @ts-expect-error a property that the body has not
  broker.consume(orders, (order) => void order.total);
}

/** Nothing, or an outcome; anything else would be mistaken for success. */
export function outcomes(broker: Broker): void {
  broker.consume(orders, () => {});
  broker.consume(orders, async () => {});
  broker.consume(orders, () => retry());
  broker.consume(orders, async () => retry({ afterMs: 5 }));
  broker.consume(orders, (order) => (order.id === "" ? deadLetter("an order needs an id") : undefined));
  // @ts-expect-error false is not a way to fail
  broker.consume(orders, () => false);
  // @ts-expect-error nor is a text
  broker.consume(orders, async () => "retry");
  // @ts-expect-error a reason is asked for
  broker.consume(orders, () => deadLetter());
  // @ts-expect-error it is called afterMs
  broker.consume(orders, () => retry({ delayMs: 5 }));
}

/** The client's own message, typed per adapter. */
export function natives(): void {
  const overRabbit = createBroker(rabbitmq({ url: "amqp://localhost" }));
  check<Same<typeof overRabbit, Broker<ConsumeMessage>>>();
  overRabbit.consume(orders, (_, delivery) => {
    check<Same<typeof delivery.native, ConsumeMessage>>();
    check<Same<typeof delivery.native.fields.exchange, string>>();
  });
  createBroker(memory()).consume(orders, (_, delivery) => {
    check<Same<typeof delivery.native, undefined>>();
    // @ts-expect-error there is no client in process
    delivery.native.fields;
  });
  // A handler that does not look at it serves on every broker.
  const anywhere: Handler<Order> = () => {};
  overRabbit.consume(orders, anywhere);
  const onRabbit: Handler<Order, ConsumeMessage> = (_, { native }) => void native.fields;
  overRabbit.consume(orders, onRabbit);
  // @ts-expect-error and one that does, on its own alone
  createBroker(memory()).consume(orders, onRabbit);
}

/** Deliveries are read; only the copy of the headers may be changed. */
export function deliveriesAreRead(delivery: Delivery): void {
  delivery.headers.seen = "yes";
  // @ts-expect-error the id is the message's
  delivery.id = "another";
  // @ts-expect-error so is the attempt
  delivery.attempt = 1;
}

/** Middleware wraps handlers of any body. */
export function middleware(broker: Broker): void {
  const logged: Middleware = (next) => async (body, delivery) => {
    check<Same<typeof body, unknown>>();
    return next(body, delivery);
  };
  broker.consume(orders, () => {}, { use: [logged] });
  // @ts-expect-error it takes a handler and gives one
  broker.consume(orders, () => {}, { use: [() => {}] });
}

/** Middleware that reads bodies wraps only handlers of such bodies. */
export function middlewareOfBodies(broker: Broker): void {
  const store = memoryIdempotencyStore();
  const placed = topic<Order>("order.placed");
  const amounts = queue("amounts", { schema: z.string().transform(Number) });
  const byNumber = idempotent<{ readonly number: number }>(store, { key: ({ number }) => String(number) });
  const byId = idempotent<Order>(store, { key: ({ id }) => id });
  broker.consume(orders, () => {}, { use: [byId, idempotent(store)] });
  broker.consume(queue<Order & { readonly total: number }>("priced"), () => {}, { use: [byId] });
  broker.consume(orders, () => {}, {
    use: [
      idempotent(store, {
        key: (order) => {
          check<Same<typeof order, Order>>();
          return order.id;
        },
      }),
    ],
  });
  broker.consume(amounts, () => {}, { use: [idempotent(store, { key: (amount) => amount.toFixed(2) })] });
  // @ts-expect-error a key of other bodies
  broker.consume(orders, () => {}, { use: [byNumber] });
  // @ts-expect-error a key of what is sent, not of what the schema makes of it
  broker.consume(amounts, () => {}, { use: [idempotent<string>(store, { key: (text) => text })] });
  // @ts-expect-error the same on a subscription
  broker.subscribe(placed, "desk", () => {}, { use: [byNumber] });
  // @ts-expect-error the broker's own middleware is given bodies of every kind
  createBroker(memory(), { use: [byId] });
}
