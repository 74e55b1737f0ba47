import type { KafkaOptions } from "../../adapters/kafka/options.ts";
import type { MemoryOptions } from "../../adapters/memory/index.ts";
import type { RabbitMQOptions } from "../../adapters/rabbitmq/options.ts";
import type { SqsOptions } from "../../adapters/sqs/options.ts";

/**
 * What a program says itself about the brokers that it may be brought to: what no URL can carry (a space, certificates, a
 * function that provides credentials), and what it knows better than whoever sets the URL. Only the options for the
 * URL's broker are used, and looked at. One given here comes before the URL's.
 */
export interface UrlOptions {
  /** For `memory:`. Brokers with the same `space` share their messages; without one, each has its own. */
  readonly memory?: MemoryOptions;
  /** For `amqp:` and `amqps:`. */
  readonly rabbitmq?: Omit<RabbitMQOptions, "url">;
  /** For `kafka:` and `kafka+ssl:`. */
  readonly kafka?: Partial<KafkaOptions>;
  /** For `sqs:`. */
  readonly sqs?: SqsOptions;
}
