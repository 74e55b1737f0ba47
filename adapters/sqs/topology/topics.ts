import { isDeepStrictEqual } from "node:util";
import {
  CreateTopicCommand,
  GetSubscriptionAttributesCommand,
  ListSubscriptionsByTopicCommand,
  SetSubscriptionAttributesCommand,
  SubscribeCommand,
} from "@aws-sdk/client-sns";
import type { SubscriptionDeclaration, Topology } from "../../../core/adapter.ts";
import { describeAddress, type SubscriptionAddress, type TopicAddress } from "../../../core/address.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { Clients } from "../connection.ts";
import { asMessagingError, isMissing } from "../errors.ts";
import { filterPolicy, isReadOn } from "../filter-policy.ts";
import { FIFO } from "../names.ts";
import type { Settings } from "../options.ts";
import { type Place, pagesOf, type Registry } from "../registry.ts";
import { allowTopic, Problems, Queues, WorkQueues } from "./queues.ts";

/** Makes topics, or looks whether they stand. */
class Topics {
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

interface SubscriptionAttribute {
  readonly name: "RawMessageDelivery" | "FilterPolicyScope" | "FilterPolicy";
  readonly value: string;
}

/** What an attribute that SNS does not mention stands at. */
const DEFAULTS: Readonly<Record<SubscriptionAttribute["name"], string>> = {
  RawMessageDelivery: "false",
  FilterPolicyScope: "MessageAttributes",
  FilterPolicy: "{}",
};
const FOUND: Readonly<Record<SubscriptionAttribute["name"], string>> = {
  RawMessageDelivery: "has no raw delivery on SNS",
  FilterPolicyScope: "filters by bodies on SNS, which keeps events away",
  FilterPolicy: "has another filter policy on SNS than its filter asks for, which keeps events away",
};

/** Makes subscriptions with their queues, or looks whether they stand. */
class Subscriptions {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #queues: Queues;
  readonly #work: WorkQueues;
  readonly #notice: (error: MessagingError) => void;
  /** Of queues, by their URLs. */
  readonly #arns = new Map<string, string>();

  constructor(
    clients: Clients,
    registry: Registry,
    queues: Queues,
    work: WorkQueues,
    notice: (error: MessagingError) => void,
  ) {
    this.#clients = clients;
    this.#registry = registry;
    this.#queues = queues;
    this.#work = work;
    this.#notice = notice;
  }

  /** A subscription that stands is made to be as declared, or found different; `problems` gets whatever is wrong. */
  async declare(declaration: SubscriptionDeclaration, create: boolean, problems: Problems): Promise<void> {
    const { address, ordered } = declaration;
    const where = `declaring ${describeAddress(address)}`;
    const topic = await problems.collect(this.#topicOf(declaration));
    // Nothing is made for a topic that is none, or of the other kind.
    if (topic === undefined && create) return;
    const queue = await this.#work.declare(address, ordered, create, problems);
    if (topic === undefined || queue === undefined) return;
    await problems.collect(allowTopic(this.#queues, where, queue, topic.locator, create));
    await problems.collect(this.#declare(where, declaration, topic.locator, queue.arn, create, problems));
  }

  /** Whether an existing queue is subscribed to its topic. Rejects if it could not look, or if the queue is gone. */
  async isSubscribed(address: SubscriptionAddress): Promise<boolean> {
    const where = `looking for ${describeAddress(address)}`;
    const topic: TopicAddress = { kind: "topic", name: address.topic };
    const { locator: url } = await this.#registry.find(address);
    const arn = this.#arns.get(url) ?? (await this.#queues.attributes(where, url, ["QueueArn"])).QueueArn ?? "";
    this.#arns.set(url, arn);
    try {
      return (await this.#find((await this.#registry.find(topic)).locator, arn)) !== undefined;
    } catch (error) {
      if (!isMissing(error) && !isMessagingError(error, "not-found")) throw asMessagingError(where, error);
      this.#registry.forget(topic);
      return false;
    }
  }

  async #topicOf({ address, ordered }: SubscriptionDeclaration): Promise<Place> {
    const topic = await this.#registry.find({ kind: "topic", name: address.topic });
    if (!ordered || topic.fifo) return topic;
    const problem = "is ordered, and its topic stands on SNS without order; make the topic a FIFO topic";
    throw new MessagingError("conflict", `${describeAddress(address)} ${problem}`);
  }

  async #declare(
    where: string,
    { address, filter }: SubscriptionDeclaration,
    topic: string,
    queue: string,
    create: boolean,
    problems: Problems,
  ): Promise<void> {
    const policy = filterPolicy(filter);
    try {
      const standing = await this.#find(topic, queue);
      if (standing === undefined && !create) {
        const problem = "its queue is not subscribed to the topic; subscribe it with raw delivery";
        throw new MessagingError("not-found", `${describeAddress(address)}: ${problem}`);
      }
      if (standing === undefined) await this.#subscribe(topic, queue, policy);
      else if (create) await this.#mend(address, standing, filter);
      else
        for (const attribute of await this.#differences(standing, policy)) {
          problems.add(different(address, attribute));
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

  /** What stands otherwise than wanted, in the order in which it can be set. */
  async #differences(subscription: string, policy = "{}"): Promise<readonly SubscriptionAttribute[]> {
    const { Attributes = {} } = await this.#clients.control.sns.send(
      new GetSubscriptionAttributesCommand({ SubscriptionArn: subscription }),
    );
    const wanted: SubscriptionAttribute[] = [{ name: "RawMessageDelivery", value: "true" }];
    if (policy !== "{}") wanted.push({ name: "FilterPolicyScope", value: "MessageAttributes" });
    wanted.push({ name: "FilterPolicy", value: policy });
    return wanted.filter(({ name, value }) => !sameJson(Attributes[name] ?? DEFAULTS[name], value));
  }

  async #mend(address: SubscriptionAddress, subscription: string, filter: string | undefined): Promise<void> {
    for (const { name, value } of await this.#differences(subscription, filterPolicy(filter))) {
      if (name === "FilterPolicy" && isReadOn(filter)) this.#notice(changed(address));
      // SNS refuses a scope that the standing policy does not fit. Until it has its own, everything is let through, and
      // looked at while reading.
      if (name === "FilterPolicyScope") await this.#set(subscription, { name: "FilterPolicy", value: "{}" });
      await this.#set(subscription, { name, value });
    }
  }

  async #set(subscription: string, { name, value }: SubscriptionAttribute): Promise<void> {
    await this.#clients.control.sns.send(
      new SetSubscriptionAttributesCommand({
        SubscriptionArn: subscription,
        AttributeName: name,
        AttributeValue: value,
      }),
    );
  }

  /** The ARN of the queue's subscription. One that waits for somebody to confirm it, or was removed just now, has none. */
  async #find(topic: string, queue: string): Promise<string | undefined> {
    const { sns } = this.#clients.control;
    const pages = pagesOf("the subscriptions of a topic", (token) =>
      sns.send(new ListSubscriptionsByTopicCommand({ TopicArn: topic, ...token })),
    );
    for await (const { Subscriptions = [] } of pages) {
      const found = Subscriptions.find(
        ({ Endpoint, SubscriptionArn }) => Endpoint === queue && SubscriptionArn?.startsWith("arn:"),
      );
      if (found !== undefined) return found.SubscriptionArn;
    }
    return undefined;
  }
}

function different(address: SubscriptionAddress, { name, value }: SubscriptionAttribute): MessagingError {
  return new MessagingError("conflict", `${describeAddress(address)} ${FOUND[name]}; set its ${name} to ${value}`);
}

function changed(address: SubscriptionAddress): MessagingError {
  const what = "had another filter policy on SNS, and is given that of its filter";
  const then = "what waits in its queue and begins as the filter does is deleted where it does not match";
  return new MessagingError("conflict", `${describeAddress(address)} ${what}: ${then}, and counted as filtered`);
}

/** AWS may write a policy in another way than it was given. */
function sameJson(one: string, other: string): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(one), JSON.parse(other));
  } catch {
    return one === other;
  }
}

/** Makes queues, topics and subscriptions, or looks whether they stand. */
export class TopologyKeeper {
  readonly #work: WorkQueues;
  readonly #topics: Topics;
  readonly #subscriptions: Subscriptions;

  /** `notice` is told what people should know of what was changed. */
  constructor(clients: Clients, registry: Registry, settings: Settings, notice: (error: MessagingError) => void) {
    const queues = new Queues(clients, registry, settings);
    this.#work = new WorkQueues(queues, settings.maxReceives);
    this.#topics = new Topics(clients, registry, settings);
    this.#subscriptions = new Subscriptions(clients, registry, queues, this.#work, notice);
  }

  /** Whether the queue of a subscription is subscribed to its topic. Rejects if it could not look. */
  isSubscribed(address: SubscriptionAddress): Promise<boolean> {
    return this.#subscriptions.isSubscribed(address);
  }

  /** Every problem found. Rejects with `unreachable` if it could not look. */
  async declare({ mode, queues, topics, subscriptions }: Topology): Promise<readonly MessagingError[]> {
    if (mode === "none") return [];
    const create = mode === "create";
    const problems = new Problems();
    await Promise.all([
      ...queues.map(({ address, ordered }) => this.#work.declare(address, ordered, create, problems)),
      ...topics.map(({ address, ordered }) => problems.collect(this.#topics.declare(address, ordered, create))),
    ]);
    await Promise.all(subscriptions.map((subscription) => this.#subscriptions.declare(subscription, create, problems)));
    return problems.all;
  }
}
