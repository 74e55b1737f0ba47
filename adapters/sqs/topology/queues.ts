import { CreateQueueCommand, GetQueueAttributesCommand, SetQueueAttributesCommand } from "@aws-sdk/client-sqs";
import { type Address, describeAddress } from "../../../core/address.ts";
import { DECLARE_IT } from "../../../core/advice.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { MOST_QUEUE_BYTES } from "../capabilities.ts";
import type { Clients } from "../clients.ts";
import { asMessagingError } from "../errors.ts";
import { FIFO, kindsOf } from "../names.ts";
import type { Settings } from "../options.ts";
import type { Registry } from "../registry.ts";

const FIFO_ONLY: readonly string[] = ["DeduplicationScope", "FifoThroughputLimit"];

/** A queue that stands. */
export interface StandingQueue {
  readonly url: string;
  readonly arn: string;
}

/** Makes single queues, or looks whether they stand. */
export class Queues {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #settings: Settings;

  constructor(clients: Clients, registry: Registry, settings: Settings) {
    this.#clients = clients;
    this.#registry = registry;
    this.#settings = settings;
  }

  /** A queue; one that stands is left as it is, and `attributes` are for one that is made. */
  async declare(
    address: Address,
    fifo: boolean,
    create: boolean,
    attributes: Readonly<Record<string, string>> = {},
  ): Promise<StandingQueue> {
    const name = this.#registry.name(address) + (fifo ? FIFO : "");
    const where = `declaring ${describeAddress(address)}`;
    let url = await this.#registry.queueUrl(address, name);
    if (url === undefined) {
      const other = this.checkOtherKind(address, fifo);
      // Who only looks may have no right to look for what was not asked for.
      await (create ? other : other.catch(unlessUnauthorized));
      if (create) url = await this.#create(where, address, name, fifo, attributes);
    }
    if (url === undefined) {
      throw new MessagingError(
        "not-found",
        `${describeAddress(address)} does not exist on SQS as "${name}"; ${DECLARE_IT}`,
      );
    }
    this.#registry.learn(address, { kind: "queue", locator: url, fifo });
    const { QueueArn = "" } = await this.attributes(where, url, ["QueueArn"]);
    return { url, arn: QueueArn };
  }

  /**
   * Rejects with `conflict` if a queue of the other kind stands: beside it a new one would be empty, and what waits in the
   * other would be forgotten.
   */
  async checkOtherKind(address: Address, fifo: boolean): Promise<void> {
    if (!kindsOf(address).includes(!fifo)) return;
    const other = this.#registry.name(address) + (fifo ? "" : FIFO);
    if ((await this.#registry.queueUrl(address, other)) === undefined) return;
    const [stands, asked] = fifo ? ["a standard queue", "ordered"] : ["a FIFO queue", "not ordered"];
    throw new MessagingError(
      "conflict",
      `${describeAddress(address)} stands on SQS as ${stands}, "${other}", and is declared ${asked}; empty and remove it, or declare it as it is`,
    );
  }

  async attributes(where: string, url: string, names: readonly string[]): Promise<Partial<Record<string, string>>> {
    try {
      const { Attributes = {} } = await this.#clients.control.sqs.send(
        new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: names as ["QueueArn"] }),
      );
      return Attributes;
    } catch (error) {
      throw asMessagingError(where, error);
    }
  }

  async set(where: string, url: string, attributes: Record<string, string>): Promise<void> {
    try {
      await this.#clients.control.sqs.send(new SetQueueAttributesCommand({ QueueUrl: url, Attributes: attributes }));
    } catch (error) {
      throw asMessagingError(where, error);
    }
  }

  async #create(
    where: string,
    address: Address,
    name: string,
    fifo: boolean,
    attributes: Readonly<Record<string, string>>,
  ): Promise<string | undefined> {
    const given = this.#settings.queueAttributes;
    try {
      const made = await this.#clients.control.sqs.send(
        new CreateQueueCommand({
          QueueName: name,
          Attributes: {
            MessageRetentionPeriod: String(this.#settings.retentionSeconds),
            MaximumMessageSize: String(MOST_QUEUE_BYTES),
            VisibilityTimeout: String(this.#settings.leaseMs / 1_000),
            ...(fifo ? { ...given, FifoQueue: "true" } : withoutFifoOnly(given)),
            ...attributes,
          },
        }),
      );
      return made.QueueUrl;
    } catch (error) {
      // Another process may have made it meanwhile, with other attributes.
      const url = await this.#registry.queueUrl(address, name);
      if (url === undefined) throw asMessagingError(where, error);
      return url;
    }
  }
}

/** An ordered queue has a log beside it, which is a standard queue, and SQS refuses these for one. */
function withoutFifoOnly(attributes: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(attributes).filter(([name]) => !FIFO_ONLY.includes(name)));
}

function unlessUnauthorized(error: unknown): void {
  if (!isMessagingError(error) || error.code !== "unauthorized") throw error;
}
