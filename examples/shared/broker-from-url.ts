import type { Adapter } from "anybroker";
import { type MemorySpace, memory } from "anybroker/memory";

const KAFKA = "kafka://";
const SQS = "sqs://";
/** How soon Kafka misses the worker that is killed: others have its work only then. */
const SESSION_MS = 6_000;
/** The same on SQS, where that is how long a message is the worker's. */
const VISIBILITY_MS = 10_000;

/**
 * The adapter for a URL such as `amqp://user:password@host:5672/vhost` `kafka://host:9092,host:9092` or
 * `sqs://region?endpoint=http://host:4566` (no endpoint is AWS's own); without one, the in-process broker on `space`.
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
  if (url.startsWith(SQS)) {
    const { sqs } = await import("anybroker/sqs");
    const [region = "", query] = url.slice(SQS.length).split("?");
    const endpoint = new URLSearchParams(query).get("endpoint");
    const options = { ...(region === "" ? {} : { region }), ...(endpoint === null ? {} : { endpoint }) };
    return sqs({ ...options, visibilityTimeoutMs: VISIBILITY_MS });
  }
  throw new Error(`BROKER_URL begins with amqp:, amqps:, ${KAFKA} or ${SQS}, or is not set at all`);
}
