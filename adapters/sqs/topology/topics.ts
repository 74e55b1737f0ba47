import { CreateTopicCommand } from "@aws-sdk/client-sns";
import { describeAddress, type TopicAddress } from "../../../core/address.ts";
import type { Clients } from "../clients.ts";
import { asMessagingError } from "../errors.ts";
import { FIFO } from "../names.ts";
import type { Settings } from "../options.ts";
import type { Registry } from "../registry.ts";

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

  async declare(address: TopicAddress, fifo: boolean, create: boolean): Promise<void> {
    if (!create) {
      await this.#registry.find(address);
      return;
    }
    try {
      const { TopicArn = "" } = await this.#clients.control.sns.send(
        new CreateTopicCommand({
          Name: this.#registry.name(address) + (fifo ? FIFO : ""),
          Attributes: { ...this.#settings.topicAttributes, ...(fifo ? { FifoTopic: "true" } : {}) },
        }),
      );
      this.#registry.learn(address, { kind: "topic", locator: TopicArn, fifo });
    } catch (error) {
      throw asMessagingError(`declaring ${describeAddress(address)}`, error);
    }
  }
}
