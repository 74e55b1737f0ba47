import type { Adapter } from "../../core/adapter.ts";
import { checkOptions } from "../../core/checks.ts";
import { kafkaUrl, memoryUrl, rabbitmqUrl, sqsUrl } from "./adapter-urls.ts";
import { type BrokerUrl, nearest, refuseAs, type UrlOptions, urlParts } from "./query.ts";

/** The brokers that a URL can lead to, by the names of their adapters. */
export const BROKERS: Readonly<Record<"memory" | "rabbitmq" | "kafka" | "sqs", BrokerUrl>> = {
  memory: memoryUrl,
  rabbitmq: rabbitmqUrl,
  kafka: kafkaUrl,
  sqs: sqsUrl,
};

const WHERE = "fromUrl()";

/**
 * The adapter for a URL:
 *
 * - `memory:`, the broker of this process
 * - `amqp://user:password@host:5672/vhost`, RabbitMQ, of a cluster several hosts with commas; with `amqps:` encrypted
 * - `kafka://user:password@a:9092,b:9092`, Kafka; with `kafka+ssl:` encrypted
 * - `sqs://eu-central-1`, SQS and SNS; an emulator with `?endpoint=http://localhost:4566`
 *
 * The query holds options of the adapter under their own names, as in `kafka://a:9092?sessionTimeoutMs=10000`, with a dot
 * for what is within another: `reconnect.maxMs=5000`. Each call makes an adapter of its own, for one broker object;
 * nothing is connected before that starts. The adapter and its client are imported here, and not earlier.
 *
 * Rejects with `invalid` for a URL that is missing, malformed or of an unknown scheme, and for options that are unknown
 * or wrong, by name and all at once; with `unsupported` if the client of the broker is not installed, and says which
 * package that is. No error quotes a value: any may be a password in the wrong place.
 *
 * @example createBroker(await fromUrl(process.env.BROKER_URL))
 */
export async function fromUrl(url: string | undefined, options: UrlOptions = {}): Promise<Adapter> {
  const { broker, settings } = readUrl(url, options);
  return broker.adapter(settings);
}

/** Which broker a URL leads to, and the options for its adapter. Throws `invalid`. */
export function readUrl(
  url: string | undefined,
  options: UrlOptions = {},
): { readonly broker: BrokerUrl; readonly settings: object } {
  checkOptions(WHERE, options, Object.keys(BROKERS));
  const known = Object.values(BROKERS);
  const refuse = refuseAs(WHERE);
  const refuseAll = (problem: string) => refuse(`${problem}; it takes ${known.map(({ form }) => form).join(" or ")}`);
  if (typeof url !== "string" || url === "") throw refuseAll("got no URL; is the variable set that holds it?");
  const parts = urlParts(url, refuseAll);
  const broker = known.find(({ schemes }) => schemes.includes(parts.scheme));
  if (broker === undefined) throw refuse(unknownScheme(parts.scheme));
  return { broker, settings: broker.options(parts, options[broker.name] ?? {}) };
}

function unknownScheme(scheme: string): string {
  const known = Object.values(BROKERS).flatMap(({ schemes }) => schemes);
  const meant = nearest(scheme, known);
  const list = known.map((name) => `${name}:`).join(", ");
  return `knows no broker by ${scheme}:${meant === undefined ? "" : ` (did you mean ${meant}:?)`}; it knows ${list}`;
}
