import type { Adapter } from "../../core/adapter.ts";
import { checkOptions } from "../../core/checks.ts";
import { kafkaUrl, memoryUrl, rabbitmqUrl, sqsUrl } from "./adapter-urls.ts";
import { type BrokerUrl, nearest, refuseAs, type UrlOptions, urlParts } from "./query.ts";

/** The brokers with URLs, by adapter name. */
export const BROKERS: Readonly<Record<"memory" | "rabbitmq" | "kafka" | "sqs", BrokerUrl>> = {
  memory: memoryUrl,
  rabbitmq: rabbitmqUrl,
  kafka: kafkaUrl,
  sqs: sqsUrl,
};

const WHERE = "fromUrl()";

/**
 * Makes the adapter for a URL:
 *
 * - `memory:`: the in-process broker
 * - `amqp://user:password@host:5672/vhost`: RabbitMQ; a cluster has hosts separated by commas; `amqps:` for TLS
 * - `kafka://user:password@a:9092,b:9092`: Kafka; `kafka+ssl:` for TLS
 * - `sqs://eu-central-1`: SQS and SNS; an emulator with `?endpoint=http://localhost:4566`
 *
 * The query has options of the adapter: `kafka://a:9092?sessionTimeoutMs=10000`. A dot separates the levels:
 * `reconnect.maxMs=5000`. Each call makes an adapter for one broker object, and connects nothing. The adapter and its client
 * are imported only now.
 *
 * Rejects with `invalid` for a URL that is missing, malformed or of an unknown scheme, and for unknown or wrong options, all
 * at once. Rejects with `unsupported` and the name of the package if the broker's client is not installed. Errors quote no
 * values, since any may be a password.
 *
 * @example createBroker(await fromUrl(process.env.BROKER_URL))
 */
export async function fromUrl(url: string | undefined, options: UrlOptions = {}): Promise<Adapter> {
  const { broker, settings } = readUrl(url, options);
  return broker.adapter(settings);
}

/** Returns the broker of a URL, and the options of its adapter. Throws `invalid`. */
export function readUrl(
  url: string | undefined,
  options: UrlOptions = {},
): { readonly broker: BrokerUrl; readonly settings: object } {
  checkOptions(WHERE, options, Object.keys(BROKERS));
  const known = Object.values(BROKERS);
  const refuse = refuseAs(WHERE);
  const refuseAll = (problem: string) => refuse(`${problem}; it takes ${known.map(({ form }) => form).join(" or ")}`);
  if (typeof url !== "string" || url === "") throw refuseAll("got no URL; check the environment variable with the URL");
  const parts = urlParts(url, refuseAll);
  const broker = known.find(({ schemes }) => schemes.includes(parts.scheme));
  if (broker === undefined) throw refuse(unknownScheme(parts.scheme));
  return { broker, settings: broker.options(parts, options[broker.name] ?? {}) };
}

function unknownScheme(scheme: string): string {
  const known = Object.values(BROKERS).flatMap(({ schemes }) => schemes);
  const meant = nearest(scheme, known);
  const list = known.map((name) => `${name}:`).join(", ");
  return `knows no scheme ${scheme}:${meant === undefined ? "" : ` (did you mean ${meant}:?)`}; it knows ${list}`;
}
