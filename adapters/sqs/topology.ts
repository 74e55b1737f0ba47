import { isDeepStrictEqual } from "node:util";
import {
  CreateTopicCommand,
  GetSubscriptionAttributesCommand,
  ListSubscriptionsByTopicCommand,
  SetSubscriptionAttributesCommand,
  SubscribeCommand,
} from "@aws-sdk/client-sns";
import { CreateQueueCommand, GetQueueAttributesCommand, SetQueueAttributesCommand } from "@aws-sdk/client-sqs";
import type { SubscriptionDeclaration, Topology } from "../../core/adapter.ts";
import {
  type Address,
  describeAddress,
  type SubscriptionAddress,
  type TopicAddress,
  type WorkAddress,
} from "../../core/address.ts";
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
    const url =
      (await this.#registry.queueUrl(address, name)) ??
      (create ? await this.#createQueue(where, address, name, fifo, attributes) : undefined);
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

  async #createQueue(
    where: string,
    address: Address,
    name: string,
    fifo: boolean,
    attributes: Readonly<Record<string, string>>,
  ): Promise<string | undefined> {
    await this.#checkOtherKind(address, fifo);
    try {
      const made = await this.#clients.control.sqs.send(
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
      return made.QueueUrl;
    } catch (error) {
      // Another process may have made it meanwhile, with other attributes.
      const url = await this.#registry.queueUrl(address, name);
      if (url === undefined) throw asMessagingError(where, error);
      return url;
    }
  }

  /** Beside a queue of the other kind a new one would be empty, and what waits in the other would be forgotten. */
  async #checkOtherKind(address: Address, fifo: boolean): Promise<void> {
    const other = this.#registry.name(address) + (fifo ? "" : FIFO);
    if ((await this.#registry.queueUrl(address, other)) === undefined) return;
    const [stands, asked] = fifo ? ["a standard queue", "ordered"] : ["a FIFO queue", "not ordered"];
    throw new MessagingError(
      "conflict",
      `${describeAddress(address)} stands on SQS as ${stands}, "${other}", and is declared ${asked}; empty and remove it, or declare it as it is`,
    );
  }

  async #attributes(where: string, url: string, names: readonly string[]): Promise<Partial<Record<string, string>>> {
    try {
      const { Attributes = {} } = await this.#clients.control.sqs.send(
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
      await this.#clients.control.sqs.send(new SetQueueAttributesCommand({ QueueUrl: url, Attributes: attributes }));
    } catch (error) {
      throw asMessagingError(where, error);
    }
  }

  async #topic(address: TopicAddress, fifo: boolean, create: boolean): Promise<string> {
    if (!create) return (await this.#registry.find(address)).locator;
    try {
      const { TopicArn = "" } = await this.#clients.control.sns.send(
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
    if (ordered && !topic.fifo) {
      const problem = "is ordered, and its topic stands on SNS without order; make the topic a FIFO topic";
      throw new MessagingError("conflict", `${describeAddress(address)} ${problem}`);
    }
    const queue = await this.#work(address, ordered, create);
    await this.#allow(where, queue, topic.locator, create);
    const policy = filterPolicy(filter);
    const standing = await this.#find(where, topic.locator, queue.arn);
    try {
      if (standing !== undefined) await this.#subscribed(address, standing, policy, create);
      else if (create) await this.#subscribe(topic.locator, queue.arn, policy);
      else {
        const problem = "its queue is not subscribed to the topic; subscribe it with raw delivery";
        throw new MessagingError("not-found", `${describeAddress(address)}: ${problem}`);
      }
    } catch (error) {
      throw asMessagingError(where, error);
    }
  }

  async #subscribe(topic: string, queue: string, policy: string | undefined): Promise<void> {
    await this.#clients.control.sns.send(
      new SubscribeCommand({
        TopicArn: topic,
        Protocol: "sqs",
        Endpoint: queue,
        Attributes: {
          RawMessageDelivery: "true",
          ...(policy === undefined ? {} : { FilterPolicy: policy, FilterPolicyScope: "MessageAttributes" }),
        },
        ReturnSubscriptionArn: true,
      }),
    );
  }

  /** A filter policy of others may keep away what was asked for, so it is set, or found wrong. */
  async #subscribed(
    address: SubscriptionAddress,
    subscription: string,
    policy: string | undefined,
    create: boolean,
  ): Promise<void> {
    const { Attributes = {} } = await this.#clients.control.sns.send(
      new GetSubscriptionAttributesCommand({ SubscriptionArn: subscription }),
    );
    const wanted: [name: string, value: string][] = [["RawMessageDelivery", "true"]];
    if (policy !== undefined) wanted.push(["FilterPolicyScope", "MessageAttributes"]);
    wanted.push(["FilterPolicy", policy ?? "{}"]);
    for (const [name, value] of wanted) {
      const found = Attributes[name] ?? (name === "FilterPolicy" ? "{}" : undefined);
      if (found !== undefined && sameJson(found, value)) continue;
      if (create) {
        const change = { SubscriptionArn: subscription, AttributeName: name, AttributeValue: value };
        await this.#clients.control.sns.send(new SetSubscriptionAttributesCommand(change));
      } else if (name === "FilterPolicy") {
        throw new MessagingError(
          "conflict",
          `${describeAddress(address)} has another filter policy on SNS than its filter asks for; set it to ${value}`,
        );
      }
    }
  }

  async #find(where: string, topic: string, queue: string): Promise<string | undefined> {
    try {
      let token: string | undefined;
      do {
        const page = await this.#clients.control.sns.send(
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

  /** Lets that topic, and no other, put messages on the queue; without that its events would be dropped in silence. */
  async #allow(where: string, queue: Standing, topic: string, create: boolean): Promise<void> {
    const { Policy } = await this.#attributes(where, queue.url, ["Policy"]);
    if (Policy?.includes(JSON.stringify(topic))) return;
    if (Policy === undefined && create) {
      await this.#setQueue(where, queue.url, { Policy: queuePolicy(queue.arn, topic) });
      return;
    }
    const found =
      Policy === undefined ? "the queue has no policy" : "the queue has a policy that does not name the topic";
    throw new MessagingError("conflict", `${where}: ${found}; allow ${topic} to send messages to it`);
  }
}

function queuePolicy(queue: string, topic: string): string {
  return JSON.stringify({
    Version: "2012-10-17",
    Statement: [
      {
        Sid: "anybroker",
        Effect: "Allow",
        Principal: { Service: "sns.amazonaws.com" },
        Action: "sqs:SendMessage",
        Resource: queue,
        Condition: { ArnEquals: { "aws:SourceArn": topic } },
      },
    ],
  });
}

/** AWS may write a policy in another way than it was given. */
function sameJson(one: string, other: string): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(one), JSON.parse(other));
  } catch {
    return one === other;
  }
}

function parsed(json: string): { readonly deadLetterTargetArn?: unknown } {
  try {
    return JSON.parse(json) as { readonly deadLetterTargetArn?: unknown };
  } catch {
    return {};
  }
}
