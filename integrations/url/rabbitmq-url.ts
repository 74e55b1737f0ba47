import type { RabbitMQOptions } from "../../adapters/rabbitmq/options.ts";
import { brokerUrl } from "./broker-url.ts";
import { elsewhere, integer, names, reconnect, scalar, text, timeoutMs } from "./parameters.ts";

const FORM = "amqp://user:password@host:5672/vhost";

/** `amqp:` and `amqps:`, RabbitMQ. What stands before the query is read by the adapter itself. */
export const rabbitmqUrl = brokerUrl<RabbitMQOptions>({
  name: "rabbitmq",
  schemes: ["amqp", "amqps"],
  form: FORM,
  packages: ["amqplib"],
  parameters: {
    heartbeatSeconds: integer(1, 60),
    connectTimeoutMs: timeoutMs(),
    requestTimeoutMs: timeoutMs(),
    reconnect: reconnect(),
    deliveryLimit: integer(1),
    consumerTimeoutMs: timeoutMs(1_000),
    queueArguments: names(scalar()),
    managementUrl: text(),
    connectionName: text(),
    url: elsewhere("it is the URL itself"),
    host: elsewhere(`write ${FORM}`),
    port: elsewhere(`write ${FORM}`),
    username: elsewhere(`write ${FORM}`),
    password: elsewhere(`write ${FORM}`),
    vhost: elsewhere(`write ${FORM}`),
    tls: elsewhere("amqps: encrypts; certificates are given as { rabbitmq: { tls } } to fromUrl"),
  },
  read: ({ beforeQuery }, given) => ({ url: beforeQuery, ...given }),
  load: async () => (await import("../../adapters/rabbitmq/index.ts")).rabbitmq,
});
