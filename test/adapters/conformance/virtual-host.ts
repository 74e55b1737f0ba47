import { afterAll, beforeAll } from "vitest";
import type { RunningRabbitMQ, VirtualHost } from "../../brokers/rabbitmq.ts";

/** A virtual host for the tests of the enclosing `describe`, removed after them. */
export function useVirtualHost(broker: RunningRabbitMQ): () => VirtualHost {
  let host: VirtualHost | undefined;
  beforeAll(async () => {
    host = await broker.newVirtualHost();
  });
  afterAll(async () => {
    await host?.remove();
  });
  return () => {
    if (host === undefined) throw new Error("the virtual host is made before the first test, and not earlier");
    return host;
  };
}
