import {
  CreateTopicCommand,
  ListSubscriptionsByTopicCommand,
  SetSubscriptionAttributesCommand,
  SubscribeCommand,
} from "@aws-sdk/client-sns";
import { CreateQueueCommand, GetQueueAttributesCommand, SetQueueAttributesCommand } from "@aws-sdk/client-sqs";
import type { SubscriptionDeclaration, Topology } from "../../core/adapter.ts";
import { type Address, describeAddress, type TopicAddress, type WorkAddress } from "../../core/address.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { MOST_QUEUE_BYTES } from "./capabilities.ts";
import type { Clients } from "./clients.ts";
import { asMessagingError } from "./errors.ts";
import { filterPolicy } from "./filter-policy.ts";
import { FIFO } from "./names.ts";
import type { Settings } from "./options.ts";
import type { Registry } from "./registry.ts";

/** A queue that stands. */
interface Standing {
  readonly url: string;
  readonly arn: string;
}

/** Makes queues, topics and subscriptions, or looks whether they stand. */
export class TopologyKeeper {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #settings: Settings;

  constructor(clients: Clients, registry: Registry, settings: Settings) {
    this.#clients = clients;
    this.#registry = registry;
    this.#settings = settings;
  }

  /** Every problem found. Rejects with `unreachable` if it could not look. */
  async declare({ mode, queues, topics, subscriptions }: Topology): Promise<readonly MessagingError[]> {
    if (mode === "none") return [];
    const create = mode === "create";
    const problems: MessagingError[] = [];
    const collect = async (what: Promise<unknown>): Promise<void> => {
      try {
        await what;
      } catch (error) {
        if (!isMessagingError(error) || error.code === "unreachable") throw error;
        problems.push(error);
      }
    };
    await Promise.all([
      ...queues.map(({ address, ordered }) => collect(this.#work(address, ordered, create))),
      ...topics.map(({ address, ordered }) => collect(this.#topic(address, ordered, create))),
    ]);
    await Promise.all(subscriptions.map((subscription) => collect(this.#subscription(subscription, create))));
    return problems;
  }

  /** A queue with its dead letters and, where its messages can be set apart, its suspects. */
  async #work(of: WorkAddress, fifo: boolean, create: boolean, policy?: string): Promise<Standing> {
    const apart: Address[] = fifo ? [] : [{ kind: "suspects", of }];
    const [dead] = await Promise.all([
      this.#queue({ kind: "dead-letters", of }, fifo, create, {}),
      ...apart.map((address) => this.#queue(address, fifo, create, {})),
    ]);
    const redrive = JSON.stringify({ deadLetterTargetArn: dead?.arn, maxReceiveCount: this.#settings.maxReceives });
    const queue = await this.#queue(of, fifo, create, {
      RedrivePolicy: redrive,
      ...(policy === undefined ? {} : { Policy: policy }),
    });
    await this.#checkRedrive(of, queue, dead?.arn ?? "", create, redrive);
    return queue;
  }

  async #queue(
    address: Address,
    fifo: boolean,
    create: boolean,
    attributes: Readonly<Record<string, string>>,
  ): Promise<Standing> {
    const name = this.#registry.name(address) + (fifo ? FIFO : "");
    const where = `declaring ${describeAddress(address)}`;
    let url = await this.#registry.queueUrl(address, name);
    if (url === undefined && create) {
      try {
        const made = await this.#clients.sqs.send(
          new CreateQueueCommand({
            QueueName: name,
            Attributes: {
              MessageRetentionPeriod: String(this.#settings.retentionSeconds),
              MaximumMessageSize: String(MOST_QUEUE_BYTES),
              VisibilityTimeout: String(this.#settings.leaseMs / 1_000),
              ...this.#settings.queueAttributes,
              ...(fifo ? { FifoQueue: "true" } : {}),
              ...attributes,
            },
          }),
        );
        url = made.QueueUrl;
      } catch (error) {
        // Another process may have made it meanwhile, with other attributes.
        url = await this.#registry.queueUrl(address, name);
        if (url === undefined) throw asMessagingError(where, error);
      }
    }
    if (url === undefined) {
      throw new MessagingError(
        "not-found",
        `${describeAddress(address)} does not exist on SQS as "${name}"; create it`,
      );
    }
    this.#registry.learn(address, { kind: "queue", locator: url, fifo });
    const { QueueArn = "" } = await this.#attributes(where, url, ["QueueArn"]);
    return { url, arn: QueueArn };
  }

  async #attributes(where: string, url: string, names: readonly string[]): Promise<Partial<Record<string, string>>> {
    try {
      const { Attributes = {} } = await this.#clients.sqs.send(
        new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: names as ["QueueArn"] }),
      );
      return Attributes;
    } catch (error) {
      throw asMessagingError(where, error);
    }
  }

  /** The net under the retry policy must lead to our dead letters: elsewhere nobody would look. */
  async #checkRedrive(of: Address, queue: Standing, target: string, create: boolean, wanted: string): Promise<void> {
    const where = `declaring ${describeAddress(of)}`;
    const { RedrivePolicy } = await this.#attributes(where, queue.url, ["RedrivePolicy"]);
    if (RedrivePolicy === undefined && create) {
      await this.#setQueue(where, queue.url, { RedrivePolicy: wanted });
      return;
    }
    const { deadLetterTargetArn } = RedrivePolicy === undefined ? {} : parsed(RedrivePolicy);
    if (deadLetterTargetArn === target) return;
    const found = RedrivePolicy === undefined ? "has no redrive policy" : "redrives to another queue";
    throw new MessagingError(
      "conflict",
      `${describeAddress(of)} ${found}; set its RedrivePolicy to ${target}, or remove it to have it set here`,
    );
  }

  async #setQueue(where: string, url: string, attributes: Record<string, string>): Promise<void> {
    try {
      await this.#clients.sqs.send(new SetQueueAttributesCommand({ QueueUrl: url, Attributes: attributes }));
    } catch (error) {
      throw asMessagingError(where, error);
    }
  }

  async #topic(address: TopicAddress, fifo: boolean, create: boolean): Promise<string> {
    if (!create) return (await this.#registry.find(address)).locator;
    try {
      const { TopicArn = "" } = await this.#clients.sns.send(
        new CreateTopicCommand({
          Name: this.#registry.name(address) + (fifo ? FIFO : ""),
          Attributes: { ...this.#settings.topicAttributes, ...(fifo ? { FifoTopic: "true" } : {}) },
        }),
      );
      this.#registry.learn(address, { kind: "topic", locator: TopicArn, fifo });
      return TopicArn;
    } catch (error) {
      throw asMessagingError(`declaring ${describeAddress(address)}`, error);
    }
  }

  async #subscription({ address, ordered, filter }: SubscriptionDeclaration, create: boolean): Promise<void> {
    const where = `declaring ${describeAddress(address)}`;
    const topic = await this.#registry.find({ kind: "topic", name: address.topic });
    const queue = await this.#work(address, ordered, create);
    if (create) await this.#allow(where, queue, topic.locator);
    const policy = filterPolicy(filter);
    const attributes: Record<string, string> = {
      RawMessageDelivery: "true",
      ...(policy === undefined ? {} : { FilterPolicy: policy, FilterPolicyScope: "MessageAttributes" }),
    };
    const standing = await this.#find(where, topic.locator, queue.arn);
    try {
      if (standing === undefined && !create) {
        throw new MessagingError(
          "not-found",
          `${describeAddress(address)}: its queue is not subscribed to the topic; subscribe it with raw delivery`,
        );
      }
      if (standing === undefined) {
        await this.#clients.sns.send(
          new SubscribeCommand({
            TopicArn: topic.locator,
            Protocol: "sqs",
            Endpoint: queue.arn,
            Attributes: attributes,
            ReturnSubscriptionArn: true,
          }),
        );
      } else if (create) {
        for (const [name, value] of Object.entries({ FilterPolicy: "{}", ...attributes })) {
          await this.#clients.sns.send(
            new SetSubscriptionAttributesCommand({
              SubscriptionArn: standing,
              AttributeName: name,
              AttributeValue: value,
            }),
          );
        }
      }
    } catch (error) {
      throw asMessagingError(where, error);
    }
  }

  async #find(where: string, topic: string, queue: string): Promise<string | undefined> {
    try {
      let token: string | undefined;
      do {
        const page = await this.#clients.sns.send(
          new ListSubscriptionsByTopicCommand({
            TopicArn: topic,
            ...(token === undefined ? {} : { NextToken: token }),
          }),
        );
        const found = page.Subscriptions?.find(({ Endpoint }) => Endpoint === queue);
        if (found !== undefined) return found.SubscriptionArn;
        token = page.NextToken || undefined;
      } while (token !== undefined);
      return undefined;
    } catch (error) {
      throw asMessagingError(where, error);
    }
  }

  /** Lets that topic, and no other, put messages on the queue. */
  async #allow(where: string, queue: Standing, topic: string): Promise<void> {
    const policy = JSON.stringify({
      Version: "2012-10-17",
      Statement: [
        {
          Sid: "anybroker",
          Effect: "Allow",
          Principal: { Service: "sns.amazonaws.com" },
          Action: "sqs:SendMessage",
          Resource: queue.arn,
          Condition: { ArnEquals: { "aws:SourceArn": topic } },
        },
      ],
    });
    const { Policy } = await this.#attributes(where, queue.url, ["Policy"]);
    if (Policy === undefined) await this.#setQueue(where, queue.url, { Policy: policy });
    else if (!Policy.includes(topic)) {
      throw new MessagingError(
        "conflict",
        `${where}: the queue has a policy of its own that does not name ${topic}; allow that topic to send messages to it`,
      );
    }
  }
}

function parsed(json: string): { readonly deadLetterTargetArn?: unknown } {
  try {
    return JSON.parse(json) as { readonly deadLetterTargetArn?: unknown };
  } catch {
    return {};
  }
}
