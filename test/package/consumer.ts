// A program of a user who has installed the package alone.
import { type Broker, type Consumer, createBroker, deadLetter, isMessagingError, queue, retry, topic } from "anybroker";
import { type MemorySpace, memory, memorySpace } from "anybroker/memory";

const orders = queue<{ id: string; total: number }>("orders", { key: (order) => order.id });
const placed = topic<{ orderId: string }>("order.placed", { whenUnroutable: "discard" });

const space: MemorySpace = memorySpace({ maxMessages: 1_000 });
export const broker: Broker<undefined> = createBroker(memory({ space }));

export const consumer: Consumer = broker.consume(orders, async (order, delivery) => {
  if (order.total === 0) return deadLetter("there is nothing to charge");
  if (delivery.attempt === 1) return retry({ afterMs: 100 });
  await broker.publish(placed, { orderId: order.id });
  return undefined;
});

export async function place(id: string): Promise<boolean> {
  try {
    await broker.send(orders, { id, total: 12 });
    return true;
  } catch (error) {
    if (isMessagingError(error, "overloaded")) return false;
    throw error;
  }
}
