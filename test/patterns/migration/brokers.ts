import { type Adapter, type Broker, type BrokerOptions, createBroker, type Destination } from "anybroker";
import { type MemorySpace, memory, memorySpace } from "anybroker/memory";
import { onTestFinished } from "vitest";

/** A started broker object over an adapter, stopped with the test. */
export async function started(
  adapter: Adapter,
  destinations: readonly Destination[],
  options: Omit<BrokerOptions, "destinations"> = {},
): Promise<Broker> {
  const broker = createBroker(adapter, { ...options, destinations });
  onTestFinished(() => broker.stop({ timeoutMs: 0 }));
  await broker.start();
  return broker;
}

/** Two in-process brokers with the same destinations. */
export async function twoBrokers(
  destinations: readonly Destination[],
): Promise<{ readonly from: Broker; readonly to: Broker; readonly spaces: readonly [MemorySpace, MemorySpace] }> {
  const spaces = [memorySpace(), memorySpace()] as const;
  const from = await started(memory({ space: spaces[0] }), destinations);
  const to = await started(memory({ space: spaces[1] }), destinations);
  return { from, to, spaces };
}
