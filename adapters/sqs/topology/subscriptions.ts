import { isDeepStrictEqual } from "node:util";
import {
  GetSubscriptionAttributesCommand,
  ListSubscriptionsByTopicCommand,
  SetSubscriptionAttributesCommand,
  SubscribeCommand,
} from "@aws-sdk/client-sns";
import type { SubscriptionDeclaration } from "../../../core/adapter.ts";
import { describeAddress, type SubscriptionAddress } from "../../../core/address.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { Clients } from "../clients.ts";
import { asMessagingError } from "../errors.ts";
import { filterPolicy } from "../filter-policy.ts";
import type { Registry } from "../registry.ts";
import { allowTopic } from "./queue-policy.ts";
import type { Queues } from "./queues.ts";
import type { WorkQueues } from "./work-queues.ts";

/** Makes subscriptions with their queues, or looks whether they stand. */
export class Subscriptions {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #queues: Queues;
  readonly #work: WorkQueues;

  constructor(clients: Clients, registry: Registry, queues: Queues, work: WorkQueues) {
    this.#clients = clients;
    this.#registry = registry;
    this.#queues = queues;
    this.#work = work;
  }

  async declare({ address, ordered, filter }: SubscriptionDeclaration, create: boolean): Promise<void> {
    const where = `declaring ${describeAddress(address)}`;
    const topic = await this.#registry.find({ kind: "topic", name: address.topic });
    if (ordered && !topic.fifo) {
      const problem = "is ordered, and its topic stands on SNS without order; make the topic a FIFO topic";
      throw new MessagingError("conflict", `${describeAddress(address)} ${problem}`);
    }
    const queue = await this.#work.declare(address, ordered, create);
    await allowTopic(this.#queues, where, queue, topic.locator, create);
    const policy = filterPolicy(filter);
    const standing = await this.#find(where, topic.locator, queue.arn);
    try {
      if (standing !== undefined) await this.#check(address, standing, policy, create);
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
  async #check(
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
}

/** AWS may write a policy in another way than it was given. */
function sameJson(one: string, other: string): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(one), JSON.parse(other));
  } catch {
    return one === other;
  }
}
