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
import { isMessagingError, MessagingError, SET_IT } from "../../../core/errors.ts";
import type { Clients } from "../connection.ts";
import { asMessagingError, isMissing } from "../errors.ts";
import { filterPolicy, isPartial } from "../filter-policy.ts";
import { FIFO } from "../names.ts";
import type { Settings } from "../options.ts";
import { type AwsResource, pagesOf, type Registry } from "../registry.ts";
import { allowTopic, Problems, Queues, WorkQueues } from "./queues.ts";

/** Creates or verifies topics. */
class Topics {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #settings: Settings;

  constructor(clients: Clients, registry: Registry, settings: Settings) {
    this.#clients = clients;
    this.#registry = registry;
    this.#settings = settings;
  }

  /** Creates or verifies a topic; an existing one is not changed. */
  async declare(address: TopicAddress, fifo: boolean, create: boolean): Promise<void> {
    const resources = await this.#registry.topics(address);
    const existing = resources.find((resource) => resource.fifo === fifo);
    if (existing === undefined && resources.length > 0) throw this.#otherKind(address, fifo);
    if (existing === undefined && !create) throw this.#registry.notFound(address);
    this.#registry.learn(address, existing ?? (await this.#create(address, fifo)));
  }

  async #create(address: TopicAddress, fifo: boolean): Promise<AwsResource> {
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
    const [kind, declared] = fifo ? ["a standard topic", "ordered"] : ["a FIFO topic", "not ordered"];
    return new MessagingError(
      "conflict",
      `${describeAddress(address)} exists on SNS as ${kind}, "${other}", and is declared ${declared}; delete it, or declare it as it exists`,
    );
  }
}

interface SubscriptionAttribute {
  readonly name: "RawMessageDelivery" | "FilterPolicyScope" | "FilterPolicy";
  readonly value: string;
}

/** The defaults of attributes that SNS omits. */
const DEFAULTS: Readonly<Record<SubscriptionAttribute["name"], string>> = {
  RawMessageDelivery: "false",
  FilterPolicyScope: "MessageAttributes",
  FilterPolicy: "{}",
};
const FOUND: Readonly<Record<SubscriptionAttribute["name"], string>> = {
  RawMessageDelivery: "has no raw delivery on SNS",
  FilterPolicyScope: "filters by bodies on SNS, so events are missing",
  FilterPolicy: "has another filter policy on SNS than its filter needs, so events are missing",
};

/** Creates or verifies subscriptions with their queues. */
class Subscriptions {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #queues: Queues;
  readonly #work: WorkQueues;
  readonly #notice: (error: MessagingError) => void;
  /** The ARNs of queues, by URL. */
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

  /** Creates or corrects a subscription, or compares it with its declaration. Adds every problem to `problems`. */
  async declare(declaration: SubscriptionDeclaration, create: boolean, problems: Problems): Promise<void> {
    const { address, ordered } = declaration;
    const where = `declaring ${describeAddress(address)}`;
    const topic = await problems.collect(this.#topicOf(declaration));
    // Nothing is created for a missing topic, or one of the other kind.
    if (topic === undefined && create) return;
    const queue = await this.#work.declare(address, ordered, create, problems);
    if (topic === undefined || queue === undefined) return;
    await problems.collect(allowTopic(this.#queues, where, queue, topic.locator, create));
    await problems.collect(this.#declare(where, declaration, topic.locator, queue.arn, create, problems));
  }

  /** Whether an existing queue is subscribed to its topic. Rejects if the check failed, or if the queue is gone. */
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

  async #topicOf({ address, ordered }: SubscriptionDeclaration): Promise<AwsResource> {
    const topic = await this.#registry.find({ kind: "topic", name: address.topic });
    if (!ordered || topic.fifo) return topic;
    const problem = "is ordered, and its topic on SNS is a standard topic; use a FIFO topic";
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
      const existing = await this.#find(topic, queue);
      if (existing === undefined && !create) {
        const problem = "its queue is not subscribed to the topic; subscribe it with raw delivery";
        throw new MessagingError("not-found", `${describeAddress(address)}: ${problem}`);
      }
      if (existing === undefined) await this.#subscribe(topic, queue, policy);
      else if (create) await this.#correct(address, existing, filter);
      else
        for (const attribute of await this.#differences(existing, policy)) {
          problems.add(mismatch(address, attribute));
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

  /** The attributes that differ, in the order in which they can be set. */
  async #differences(subscription: string, policy = "{}"): Promise<readonly SubscriptionAttribute[]> {
    const { Attributes = {} } = await this.#clients.control.sns.send(
      new GetSubscriptionAttributesCommand({ SubscriptionArn: subscription }),
    );
    const wanted: SubscriptionAttribute[] = [{ name: "RawMessageDelivery", value: "true" }];
    if (policy !== "{}") wanted.push({ name: "FilterPolicyScope", value: "MessageAttributes" });
    wanted.push({ name: "FilterPolicy", value: policy });
    return wanted.filter(({ name, value }) => !sameJson(Attributes[name] ?? DEFAULTS[name], value));
  }

  async #correct(address: SubscriptionAddress, subscription: string, filter: string | undefined): Promise<void> {
    for (const { name, value } of await this.#differences(subscription, filterPolicy(filter))) {
      if (name === "FilterPolicy" && isPartial(filter)) this.#notice(filterChanged(address));
      // SNS refuses a scope that does not fit the existing policy. In between, the consumer filters all events.
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

  /** The ARN of the queue's subscription. It has none while it is not confirmed, or just after it was deleted. */
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

function mismatch(address: SubscriptionAddress, { name, value }: SubscriptionAttribute): MessagingError {
  const next = `set its ${name} to ${value}, or ${SET_IT}`;
  return new MessagingError("conflict", `${describeAddress(address)} ${FOUND[name]}; ${next}`);
}

function filterChanged(address: SubscriptionAddress): MessagingError {
  const what = "had another filter policy on SNS, which was replaced by that of its filter";
  const then = "waiting events that begin like the filter and do not match it are deleted";
  return new MessagingError("conflict", `${describeAddress(address)} ${what}: ${then}, and counted as filtered`);
}

/** AWS may format a policy differently. */
function sameJson(one: string, other: string): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(one), JSON.parse(other));
  } catch {
    return one === other;
  }
}

/** Creates or verifies queues, topics and subscriptions. */
export class TopologyKeeper {
  readonly #work: WorkQueues;
  readonly #topics: Topics;
  readonly #subscriptions: Subscriptions;

  /** `notice` gets changes that operators should know of. */
  constructor(clients: Clients, registry: Registry, settings: Settings, notice: (error: MessagingError) => void) {
    const queues = new Queues(clients, registry, settings);
    this.#work = new WorkQueues(queues, settings.maxReceives);
    this.#topics = new Topics(clients, registry, settings);
    this.#subscriptions = new Subscriptions(clients, registry, queues, this.#work, notice);
  }

  /** Whether the queue of a subscription is subscribed to its topic. Rejects if the check failed. */
  isSubscribed(address: SubscriptionAddress): Promise<boolean> {
    return this.#subscriptions.isSubscribed(address);
  }

  /** Resolves with every problem found. Rejects with `unreachable` if it could not check. */
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

const CHECK_EVERY_MS = 60_000;
/** How often it checks again, and at which interval, before a resource counts as deleted. */
const CHECKS = 6;
const CHECK_AGAIN_MS = 500;

/** Checks for three seconds whether something exists again. Resolves with whether it does. */
export async function reappears(check: () => Promise<boolean>, isOver: () => boolean): Promise<boolean> {
  for (let checks = 0; checks < CHECKS && !isOver(); checks++) {
    await new Promise((resolve) => setTimeout(resolve, CHECK_AGAIN_MS));
    if (await check()) return true;
  }
  return false;
}

/** What the watch needs from its session. */
interface WatchHost {
  /** All consumed subscriptions, once for each consumer. */
  consumed(): readonly SubscriptionAddress[];
  /** Whether SNS has the subscription. Rejects if the check failed. */
  exists(address: SubscriptionAddress): Promise<boolean>;
  /** Recreates it if this process may. Never rejects. */
  restore(address: SubscriptionAddress): Promise<void>;
  /** Why SNS delivers nothing to the subscription; undefined if it does. */
  disconnected(address: SubscriptionAddress, cause: MessagingError | undefined): void;
  /** This process may not check the subscription. */
  refused(address: SubscriptionAddress, cause: MessagingError): void;
}

/**
 * Checks every minute whether SNS has the consumed subscriptions. Polls do not show it: without its subscription, a
 * queue is merely empty. A subscription is deleted with its topic, or by an operator.
 */
export class SubscriptionWatch {
  readonly #host: WatchHost;
  /** Subscriptions whose check was refused. AWS logs each refusal, so they are not checked again. */
  readonly #refused = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(host: WatchHost) {
    this.#host = host;
  }

  start(): void {
    if (this.#isOver) return;
    // Processes that started together should not check together.
    this.#timer = setTimeout(
      () => void this.#checkAll().finally(() => this.start()),
      CHECK_EVERY_MS * (0.75 + Math.random() / 2),
    );
    this.#timer.unref();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #checkAll(): Promise<void> {
    const all = new Map(this.#host.consumed().map((address) => [describeAddress(address), address]));
    for (const [name, address] of all) {
      if (this.#isOver) return;
      if (!this.#refused.has(name)) await this.#check(name, address);
    }
  }

  async #check(name: string, address: SubscriptionAddress): Promise<void> {
    const check = (): Promise<boolean> => this.#host.exists(address);
    const isOver = (): boolean => this.#isOver;
    try {
      let exists = (await check()) || (await reappears(check, isOver));
      if (!exists && !this.#isOver) {
        await this.#host.restore(address);
        exists = await check();
      }
      if (!this.#isOver) this.#host.disconnected(address, exists ? undefined : gone(address));
    } catch (error) {
      // Other failures are temporary, or the polls report them.
      if (!isMessagingError(error, "unauthorized") || this.#isOver) return;
      this.#refused.add(name);
      this.#host.refused(address, error);
    }
  }
}

function gone(address: SubscriptionAddress): MessagingError {
  const what = "its queue is no longer subscribed to the topic on SNS, and gets no events";
  return new MessagingError(
    "not-found",
    `${describeAddress(address)}: ${what}; start a process that declares it, or subscribe the queue with raw delivery`,
  );
}
