import type { Answer, Input, ScriptedAws } from "./scripted-aws.ts";

const REGION = "eu-central-1";
const ACCOUNT = "000000000000";

type Attributes = Record<string, string>;

/** A subscription of a queue to a topic. */
export interface ScriptedSubscription {
  readonly topic: string;
  readonly queue: string;
  /** Empty while nobody has confirmed it. */
  readonly arn: string;
  readonly attributes: Attributes;
}

/** Queues, topics and subscriptions that stand on a scripted AWS, by their names, to be made and changed at will. */
export class ScriptedAccount {
  readonly queues = new Map<string, Attributes>();
  readonly topics = new Map<string, Attributes>();
  readonly subscriptions: ScriptedSubscription[] = [];
  readonly #aws: ScriptedAws;

  constructor(aws: ScriptedAws) {
    this.#aws = aws;
    aws.on("GetQueueUrl", ({ QueueName }) =>
      this.#queue(nameOf(QueueName), () => ({ QueueUrl: this.#url(QueueName) })),
    );
    aws.on("CreateQueue", ({ QueueName, Attributes = {} }) => {
      this.queues.set(nameOf(QueueName), { ...(Attributes as Attributes) });
      return { output: { QueueUrl: this.#url(QueueName) } };
    });
    aws.on("GetQueueAttributes", ({ QueueUrl }) =>
      this.#queue(nameOf(QueueUrl), (queue) => ({ Attributes: { ...queue, QueueArn: queueArn(nameOf(QueueUrl)) } })),
    );
    aws.on("SetQueueAttributes", ({ QueueUrl, Attributes }) =>
      this.#queue(nameOf(QueueUrl), (queue) => Object.assign(queue, Attributes) && {}),
    );
    // A page has one of them: whoever does not ask on does not find the others.
    aws.on("ListTopics", ({ NextToken = "0" }) => {
      const topics = [...this.topics.keys()].map((name) => ({ TopicArn: topicArn(name) }));
      return {
        output: { Topics: topics.slice(Number(NextToken), Number(NextToken) + 1), ...pageAfter(NextToken, topics) },
      };
    });
    aws.on("CreateTopic", ({ Name, Attributes = {} }) => {
      this.topics.set(String(Name), { ...(Attributes as Attributes) });
      return { output: { TopicArn: topicArn(String(Name)) } };
    });
    aws.on("Subscribe", ({ TopicArn, Endpoint, Attributes = {} }) => {
      const { arn } = this.subscribe(nameOf(TopicArn), nameOf(Endpoint), { ...(Attributes as Attributes) });
      return { output: { SubscriptionArn: arn } };
    });
    aws.on("ListSubscriptionsByTopic", ({ TopicArn, NextToken = "0" }) => {
      const all = this.subscriptions
        .filter(({ topic }) => topic === nameOf(TopicArn))
        .map(({ queue, arn }) => ({ Endpoint: queueArn(queue), SubscriptionArn: arn || "PendingConfirmation" }));
      const page = all.slice(Number(NextToken), Number(NextToken) + 1);
      return { output: { Subscriptions: page, ...pageAfter(NextToken, all) } };
    });
    aws.on("GetSubscriptionAttributes", (input) =>
      this.#subscription(input, ({ attributes }) => ({ Attributes: attributes })),
    );
    aws.on("SetSubscriptionAttributes", (input) =>
      this.#subscription(input, ({ attributes }) => {
        attributes[String(input.AttributeName)] = String(input.AttributeValue);
        return {};
      }),
    );
  }

  /** Subscribes a queue, as the console or another tool would. */
  subscribe(topic: string, queue: string, attributes: Attributes, confirmed = true): ScriptedSubscription {
    const arn = confirmed ? `${topicArn(topic)}:${this.subscriptions.length}` : "";
    const made = { topic, queue, arn, attributes };
    this.subscriptions.push(made);
    return made;
  }

  #url(name: unknown): string {
    return `${this.#aws.url}/${ACCOUNT}/${name}`;
  }

  #queue(name: string, answer: (queue: Attributes) => unknown): Answer {
    const queue = this.queues.get(name);
    return queue === undefined ? { error: "QueueDoesNotExist" } : { output: answer(queue) };
  }

  #subscription({ SubscriptionArn }: Input, answer: (subscription: ScriptedSubscription) => unknown): Answer {
    const found = this.subscriptions.find(({ arn }) => arn === SubscriptionArn);
    return found === undefined ? { error: "InvalidParameter" } : { output: answer(found) };
  }
}

export function queueArn(name: string): string {
  return `arn:aws:sqs:${REGION}:${ACCOUNT}:${name}`;
}

export function topicArn(name: string): string {
  return `arn:aws:sns:${REGION}:${ACCOUNT}:${name}`;
}

/** The name at the end of a name, a URL or an ARN. */
function nameOf(where: unknown): string {
  return String(where).split(/[/:]/).at(-1) ?? "";
}

function pageAfter(token: unknown, all: readonly unknown[]): { readonly NextToken?: string } {
  const next = Number(token) + 1;
  return next < all.length ? { NextToken: String(next) } : {};
}
