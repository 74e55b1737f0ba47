import { type ConsumeMessage, connect, type MessagePropertyHeaders } from "amqplib";
import { queueName } from "../../../adapters/rabbitmq/names.ts";
import type { ForeignSender } from "../../../conformance/index.ts";

const PROPERTIES = {
  replyTo: "answers",
  correlationId: "call-7",
  type: "order.placed",
  appId: "shop",
  timestamp: 1_700_000_000,
  contentEncoding: "utf-8",
  priority: 2,
};
/** With another prototype than what amqplib makes they would not be equal. */
const HEADERS: MessagePropertyHeaders = {
  text: "plain",
  count: 7,
  large: 5_000_000_000,
  ratio: 0.25,
  flag: true,
  nothing: null,
  bytes: Buffer.of(0, 255),
  at: { "!": "timestamp", value: 1_700_000_000 },
  price: { "!": "decimal", value: { places: 2, digits: 1999 } },
  table: { deep: [1, "two", { three: false }] },
};
/** RabbitMQ's own, and anybroker's. */
const OTHERS = /^(?:anybroker-|x-death$|x-first-death-|x-last-death-|x-delivery-count$|x-acquired-count$)/;

/** amqplib alone. */
export function foreignOnRabbitMQ(url: () => string, user: () => string): ForeignSender {
  return {
    async send(name) {
      const connection = await connect(url());
      const channel = await connection.createConfirmChannel();
      const properties = { ...PROPERTIES, userId: user() };
      channel.sendToQueue(queueName({ kind: "queue", name }), Buffer.from('{"n":1}'), {
        ...properties,
        headers: HEADERS,
      });
      await channel.waitForConfirms();
      await connection.close();
      return { ...properties, contentType: undefined, headers: HEADERS };
    },
    read(native) {
      const { properties } = native as ConsumeMessage;
      const names = [...Object.keys(PROPERTIES), "userId", "contentType"] as (keyof typeof properties)[];
      const given = Object.entries(properties.headers ?? {}).filter(([name]) => !OTHERS.test(name));
      return {
        ...Object.fromEntries(names.map((name) => [name, properties[name]])),
        headers: Object.fromEntries(given),
      };
    },
  };
}
