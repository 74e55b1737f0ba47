import { CreateTopicCommand } from "@aws-sdk/client-sns";
import { describeAddress, type TopicAddress } from "../../../core/address.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { Clients } from "../clients.ts";
import { asMessagingError } from "../errors.ts";
import { FIFO } from "../names.ts";
import type { Settings } from "../options.ts";
import type { Place, Registry } from "../registry.ts";

/** Makes topics, or looks whether they stand. */
export class Topics {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #settings: Settings;

  constructor(clients: Clients, registry: Registry, settings: Settings) {
    this.#clients = clients;
    this.#registry = registry;
    this.#settings = settings;
  }

  /** A topic; one that stands is left as it is. */
  async declare(address: TopicAddress, fifo: boolean, create: boolean): Promise<void> {
    const places = await this.#registry.topics(address);
    const standing = places.find((place) => place.fifo === fifo);
    if (standing === undefined && places.length > 0) throw this.#otherKind(address, fifo);
    if (standing === undefined && !create) throw this.#registry.notFound(address);
    this.#registry.learn(address, standing ?? (await this.#create(address, fifo)));
  }

  async #create(address: TopicAddress, fifo: boolean): Promise<Place> {
    try {
      const { TopicArn = "" } = await this.#clients.control.sns.send(
        new CreateTopicCommand({
          Name: this.#registry.name(address) + (fifo ? FIFO : ""),
          Attributes: { ...this.#settings.topicAttributes, ...(fifo ? { FifoTopic: "true" } : {}) },
        }),
      );
      return { kind: "topic", locator: TopicArn, fifo };
    } catch (error) {
      throw asMessagingError(`declaring ${describeAddress(address)}`, error);
    }
  }

  /** A new topic beside one of the other kind would have none of its subscriptions. */
  #otherKind(address: TopicAddress, fifo: boolean): MessagingError {
    const other = this.#registry.name(address) + (fifo ? "" : FIFO);
    const [stands, asked] = fifo ? ["a standard topic", "ordered"] : ["a FIFO topic", "not ordered"];
    return new MessagingError(
      "conflict",
      `${describeAddress(address)} stands on SNS as ${stands}, "${other}", and is declared ${asked}; remove it, or declare it as it is`,
    );
  }
}
