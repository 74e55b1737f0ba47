/**
 * A program of a user who has installed inversify and one client with the package. It is text here, because only
 * `experimentalDecorators` has decorators of parameters.
 */
export const CONTAINER_PROGRAM = `import "reflect-metadata";
import { type Adapter, createBroker, type Delivery, type Publisher, queue, topic } from "anybroker";
import {
  bindHandler,
  DELIVERY,
  Handles,
  type Messaging,
  messagingModule,
  PUBLISHER,
  startMessaging,
} from "anybroker/inversify";
import { type RabbitMQAdapter, type RabbitMQOptions, rabbitmq } from "anybroker/rabbitmq";
import { fromUrl, type UrlOptions } from "anybroker/url";
import { Container, inject, injectable } from "inversify";

const orders = queue<{ readonly id: string }>("orders");
const placed = topic<{ readonly orderId: string }>("order.placed");

@injectable()
@Handles(orders, { concurrency: 5 })
class Shop {
  readonly #publisher: Publisher;
  readonly #delivery: Delivery;

  constructor(@inject(PUBLISHER) publisher: Publisher, @inject(DELIVERY) delivery: Delivery) {
    this.#publisher = publisher;
    this.#delivery = delivery;
  }

  async handle(order: { readonly id: string }): Promise<void> {
    await this.#publisher.publish(placed, { orderId: order.id }, { id: this.#delivery.id });
  }
}

class Billing {
  handle(event: { readonly orderId: string }): string[] | undefined {
    return event.orderId === "" ? [] : undefined;
  }
}

const own: UrlOptions = {
  rabbitmq: { tls: { ca: "…" } },
  kafka: { ssl: true, sasl: { mechanism: "aws", authorizationIdentity: "a", accessKeyId: "b", secretAccessKey: "c" } },
  sqs: { credentials: async () => ({ accessKeyId: "a", secretAccessKey: "b" }) },
};
export const byUrl: Adapter = await fromUrl(process.env.BROKER_URL, own);

const options: RabbitMQOptions = { url: "amqp://localhost", deliveryLimit: 5 };
export const adapter: RabbitMQAdapter = rabbitmq(options);

const container = new Container();
await container.load(messagingModule({ broker: createBroker(adapter) }));
bindHandler(container, Shop);
// @ts-expect-error: its method returns what is no outcome
bindHandler(container, placed, "billing", Billing);
// @ts-expect-error: it takes another body
bindHandler(container, placed, "shop", Shop);
export const messaging: Messaging = await startMessaging(container);
`;
