import type { Adapter } from "anybroker";
import { type MemorySpace, memory } from "anybroker/memory";

/**
 * The adapter for a URL such as `amqp://user:password@host:5672/vhost`; without one, the in-process broker on `space`.
 * The client of a broker is loaded only when it is asked for.
 */
export async function adapterFromUrl(url: string | undefined, space: MemorySpace): Promise<Adapter> {
  if (url === undefined) return memory({ space });
  if (/^amqps?:/.test(url)) {
    const { rabbitmq } = await import("anybroker/rabbitmq");
    return rabbitmq({ url });
  }
  throw new Error("BROKER_URL begins with amqp: or amqps:, or is not set at all");
}
