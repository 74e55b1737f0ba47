import { KEY_HEADER, ROUTING_KEY_HEADER } from "../../adapters/rabbitmq/message-codec.ts";
import { physicalName } from "../../adapters/rabbitmq/names.ts";
import { checkOptions, optionalText } from "../../core/checks.ts";
import { type BrokerBindings, bareName, type PhysicalName } from "./broker-bindings.ts";
import { given } from "./document.ts";

const VERSION = { bindingVersion: "0.3.0" };

/** The options of {@link rabbitmqBindings}. */
export interface RabbitMQBindingsOptions {
  /** The virtual host. Default: not said, which is `/`. */
  readonly vhost?: string;
}

/**
 * AMQP 0-9-1, with the names of queues and exchanges that `anybroker/rabbitmq` uses. Its client is not needed. Throws
 * `invalid` for wrong options.
 */
export function rabbitmqBindings(options: RabbitMQBindingsOptions = {}): BrokerBindings {
  checkOptions("rabbitmqBindings", options, ["vhost"]);
  return amqpBindings(physicalName, optionalText("rabbitmqBindings", "vhost", options.vhost));
}

/** AMQP under the names that an adapter gives. */
export function amqpBindings(physicalName: PhysicalName, vhost?: string): BrokerBindings {
  return {
    physicalName,
    subscriptionsApart: true,
    messages: {
      headers: {
        [KEY_HEADER]: { type: "string", description: "The message's key, if it has one: what order is kept by." },
        [ROUTING_KEY_HEADER]: {
          type: "string",
          description:
            "The routing key of an event that was sent to one queue again, where AMQP's own is the queue's name.",
        },
      },
    },
    channel({ address }) {
      const name = bareName(physicalName(address));
      if (address.kind === "topic") {
        const exchange = given({ name, type: "topic", durable: true, autoDelete: false, vhost });
        return {
          address: "{routingKey}",
          parameters: { routingKey: { description: "What subscriptions filter by; empty for an event without one." } },
          bindings: { amqp: { is: "routingKey", exchange, ...VERSION } },
        };
      }
      const queue = given({ name, durable: true, exclusive: false, autoDelete: false, vhost });
      return { address: name, bindings: { amqp: { is: "queue", queue, ...VERSION } } };
    },
    operation(action, { ttlMs }) {
      if (action === "receive") return { amqp: { ack: true, ...VERSION } };
      return { amqp: given({ deliveryMode: 2, mandatory: true, expiration: ttlMs, ...VERSION }) };
    },
  };
}
