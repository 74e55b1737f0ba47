import { createBroker, queue } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { bridge } from "anybroker/migration";
import { expect, test } from "vitest";
import { delegate } from "../../../conformance/decorators/delegate.ts";

test("what is delivered before the receiver is there is moved once, and is gone from the old broker", async () => {
  const orders = queue("orders");
  const space = memorySpace();
  const inner = memory({ space });
  // As RabbitMQ's may: it delivers as soon as it is subscribed.
  const early = delegate(inner, {
    receive: async (from, options, sink) => {
      const delivered = Promise.withResolvers<void>();
      const receiver = await inner.receive(from, options, {
        ...sink,
        deliver(batch) {
          sink.deliver(batch);
          delivered.resolve();
        },
      });
      await delivered.promise;
      return receiver;
    },
  });
  const from = createBroker(early, { destinations: [orders] });
  const to = createBroker(memory(), { destinations: [orders] });
  await Promise.all([from.start(), to.start()]);
  for (const id of ["a", "b", "c"]) await from.send(orders, { id });
  const { end, moved, repeated } = await bridge(from, to, { source: orders }).run();
  expect({ end, moved, repeated }).toEqual({ end: "drained", moved: 3, repeated: 0 });
  expect([await from.depth(orders), await to.depth(orders)]).toMatchObject([{ ready: 0, unsettled: 0 }, { ready: 3 }]);
  await Promise.all([from.stop(), to.stop()]);
});
