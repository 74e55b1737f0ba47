import type { Adapter } from "anybroker";
import { type MemorySpace, memory } from "anybroker/memory";

const KAFKA = "kafka://";
/** How soon Kafka misses the worker that is killed: others have its work only then. */
const SESSION_MS = 6_000;

/**
 * The adapter for a URL such as `amqp://user:password@host:5672/vhost` or `kafka://host:9092,host:9092`; without one, the
 * in-process broker on `space`.
 * The client of a broker is loaded only when it is asked for.
 */
export async function adapterFromUrl(url: string | undefined, space: MemorySpace): Promise<Adapter> {
  if (url === undefined) return memory({ space });
  if (/^amqps?:/.test(url)) {
    const { rabbitmq } = await import("anybroker/rabbitmq");
    return rabbitmq({ url });
  }
  if (url.startsWith(KAFKA)) {
    const { kafka } = await import("anybroker/kafka");
    return kafka({ brokers: url.slice(KAFKA.length), sessionTimeoutMs: SESSION_MS });
  }
  throw new Error(`BROKER_URL begins with amqp:, amqps: or ${KAFKA}, or is not set at all`);
}
