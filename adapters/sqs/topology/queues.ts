import { DeleteTopicCommand } from "@aws-sdk/client-sns";
import {
  CreateQueueCommand,
  DeleteQueueCommand,
  GetQueueAttributesCommand,
  SetQueueAttributesCommand,
} from "@aws-sdk/client-sqs";
import { QUARANTINE_KEPT_MS, type Topology } from "../../../core/adapter.ts";
import { type Address, describeAddress, type WorkAddress } from "../../../core/address.ts";
import { agreeing } from "../../../core/counted.ts";
import { DECLARE_IT, isMessagingError, MessagingError, SET_IT } from "../../../core/errors.ts";
import { MAX_QUEUE_BYTES } from "../capabilities.ts";
import type { Clients } from "../connection.ts";
import { asMessagingError, isMissing } from "../errors.ts";
import { FIFO, kindsOf } from "../names.ts";
import type { Settings } from "../options.ts";
import type { Registry } from "../registry.ts";

/** Collects all problems, each once. */
export class Problems {
  readonly #found = new Map<string, MessagingError>();

  get all(): readonly MessagingError[] {
    return [...this.#found.values()];
  }

  add(problem: MessagingError): void {
    this.#found.set(`${problem.code} ${problem.message}`, problem);
  }

  /** Resolves with the result, or adds the problem and resolves with undefined. Rejects with `unreachable`. */
  async collect<Result>(result: Promise<Result>): Promise<Result | undefined> {
    try {
      return await result;
    } catch (error) {
      if (!isMessagingError(error) || error.code === "unreachable") throw error;
      this.add(error);
      return undefined;
    }
  }
}

/** Allows one topic, and no other, to send to the queue: without that, SNS drops its events silently. */
export async function allowTopic(
  queues: Queues,
  where: string,
  queue: ExistingQueue,
  topic: string,
  create: boolean,
): Promise<void> {
  const { Policy } = await queues.attributes(where, queue.url, ["Policy"]);
  if (Policy === undefined && create) {
    await queues.set(where, queue.url, { Policy: queuePolicy(queue.arn, topic) });
    return;
  }
  if (Policy !== undefined && allows(Policy, topic)) return;
  const [found, next] =
    Policy === undefined
      ? ["the queue has no policy", `, or ${SET_IT}`]
      : ["the queue has a policy that does not name the topic", ""];
  throw new MessagingError("conflict", `${where}: ${found}; allow ${topic} to send messages to it${next}`);
}

/** A policy that allows one topic, and no other, to send to a queue. */
export function queuePolicy(queue: string, topic: string): string {
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

/** Whether an Allow statement has the topic in its condition, by its ARN or a pattern. */
export function allows(policy: string, topic: string): boolean {
  try {
    const { Statement } = (JSON.parse(policy) ?? {}) as { readonly Statement?: unknown };
    return [Statement].flat().some((one) => {
      const { Effect, Condition } = (one ?? {}) as Statement;
      return Effect === "Allow" && texts(Condition).some((text) => matches(text, topic));
    });
  } catch {
    // A policy that is no JSON, or nested too deep, allows nothing.
    return false;
  }
}

interface Statement {
  readonly Effect?: unknown;
  readonly Condition?: unknown;
}

/** All strings in a value. */
function texts(value: unknown): readonly string[] {
  if (typeof value === "string") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(texts) : [];
}

/** Matches ARNs as IAM does: part by part between colons, `*` for any characters and `?` for one. */
function matches(pattern: string, arn: string): boolean {
  const parts = arn.split(":");
  const patterns = pattern.split(":");
  if (!pattern.startsWith("arn:") || patterns.length !== parts.length) return false;
  return patterns.every((part, index) => partMatches(part, parts[index] ?? ""));
}

/** No regular expression: with several `*` it would try all ways to divide the text among them. */
function partMatches(pattern: string, text: string): boolean {
  let at = 0;
  let next = 0;
  /** After the last `*`, and how far it reaches. */
  let afterStar = -1;
  let reached = 0;
  while (at < text.length) {
    if (pattern[next] === "*") {
      afterStar = ++next;
      reached = at;
    } else if (pattern[next] === "?" || pattern[next] === text[at]) {
      next++;
      at++;
    } else if (afterStar < 0) {
      return false;
    } else {
      next = afterStar;
      at = ++reached;
    }
  }
  while (pattern[next] === "*") next++;
  return next === pattern.length;
}

/** The `RedrivePolicy` of a queue: after this many receives, SQS moves a message to the dead letters with this ARN. */
function redrivePolicy(deadLetters: string, maxReceives: number): string {
  return JSON.stringify({ deadLetterTargetArn: deadLetters, maxReceiveCount: maxReceives });
}

/** The redrive policy must lead to the queue's dead letters: elsewhere anybroker does not look. */
async function checkRedrive(
  queues: Queues,
  of: Address,
  queue: ExistingQueue,
  wanted: string,
  create: boolean,
): Promise<void> {
  const where = `declaring ${describeAddress(of)}`;
  const { RedrivePolicy } = await queues.attributes(where, queue.url, ["RedrivePolicy"]);
  if (RedrivePolicy === undefined && create) {
    await queues.set(where, queue.url, { RedrivePolicy: wanted });
    return;
  }
  const target = targetOf(wanted);
  if (targetOf(RedrivePolicy) === target) return;
  const [found, next] =
    RedrivePolicy === undefined
      ? ["has no redrive policy", SET_IT]
      : [
          targetOf(RedrivePolicy) === undefined ? "has a redrive policy without a queue" : "redrives to another queue",
          "remove it, and anybroker sets it",
        ];
  throw new MessagingError(
    "conflict",
    `${describeAddress(of)} ${found}; set its RedrivePolicy to ${target}, or ${next}`,
  );
}

function targetOf(policy = "null"): unknown {
  try {
    return (JSON.parse(policy) as { readonly deadLetterTargetArn?: unknown } | null)?.deadLetterTargetArn;
  } catch {
    return undefined;
  }
}

const FIFO_ONLY: readonly string[] = ["DeduplicationScope", "FifoThroughputLimit"];

/** An existing queue. */
interface ExistingQueue {
  readonly url: string;
  readonly arn: string;
}

/** Creates or verifies single queues. */
export class Queues {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #settings: Settings;

  constructor(clients: Clients, registry: Registry, settings: Settings) {
    this.#clients = clients;
    this.#registry = registry;
    this.#settings = settings;
  }

  /** Creates or verifies a queue. An existing one is not changed; `attributes` are for a new one. */
  async declare(
    address: Address,
    fifo: boolean,
    create: boolean,
    attributes: Readonly<Record<string, string>> = {},
  ): Promise<ExistingQueue> {
    const name = this.#registry.name(address) + (fifo ? FIFO : "");
    const where = `declaring ${describeAddress(address)}`;
    let url = await this.#registry.queueUrl(address, name);
    if (url === undefined) {
      const other = this.checkOtherKind(address, fifo);
      // In mode `verify`, the process may have no permission to look for the other kind.
      await (create ? other : other.catch(unlessUnauthorized));
      if (create) url = await this.#create(where, address, name, fifo, attributes);
    }
    if (url === undefined) {
      throw new MessagingError(
        "not-found",
        `${describeAddress(address)} ${agreeing(address, "does", "do")} not exist on SQS as "${name}"; ${DECLARE_IT}`,
      );
    }
    this.#registry.learn(address, { kind: "queue", locator: url, fifo });
    const { QueueArn = "" } = await this.attributes(where, url, ["QueueArn"]);
    return { url, arn: QueueArn };
  }

  /**
   * Rejects with `conflict` if a queue of the other kind exists: a new one beside it would be empty, and the messages
   * of the other would be forgotten.
   */
  async checkOtherKind(address: Address, fifo: boolean): Promise<void> {
    if (!kindsOf(address).includes(!fifo)) return;
    const other = this.#registry.name(address) + (fifo ? "" : FIFO);
    if ((await this.#registry.queueUrl(address, other)) === undefined) return;
    const [kind, declared] = fifo ? ["a standard queue", "ordered"] : ["a FIFO queue", "not ordered"];
    throw new MessagingError(
      "conflict",
      `${describeAddress(address)} ${agreeing(address, "exists", "exist")} on SQS as ${kind}, "${other}", and ${agreeing(address, "is", "are")} declared ${declared}; drain and delete it, or declare it as it exists`,
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
            MaximumMessageSize: String(MAX_QUEUE_BYTES),
            VisibilityTimeout: String(this.#settings.leaseMs / 1_000),
            ...(fifo ? { ...given, FifoQueue: "true" } : withoutFifoOnly(given)),
            ...attributes,
          },
        }),
      );
      return made.QueueUrl;
    } catch (error) {
      // Another process may have created it meanwhile, with other attributes.
      const url = await this.#registry.queueUrl(address, name);
      if (url === undefined) throw asMessagingError(where, error);
      return url;
    }
  }
}

/** An ordered queue has a log in a standard queue, for which SQS refuses these attributes. */
function withoutFifoOnly(attributes: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(attributes).filter(([name]) => !FIFO_ONLY.includes(name)));
}

function unlessUnauthorized(error: unknown): void {
  if (!isMessagingError(error) || error.code !== "unauthorized") throw error;
}

/** A quarantine log has no redrive policy, which would move records that are read often: they only expire. */
const LOG_ATTRIBUTES = Object.freeze({ MessageRetentionPeriod: String(QUARANTINE_KEPT_MS / 1_000) });

/** Creates or verifies queues with their dead letters and quarantine logs. */
export class WorkQueues {
  readonly #queues: Queues;
  readonly #maxReceives: number;

  constructor(queues: Queues, maxReceives: number) {
    this.#queues = queues;
    this.#maxReceives = maxReceives;
  }

  /** Returns the queue if it exists. Adds all problems of it, its dead letters and its log to `problems`. */
  async declare(
    of: WorkAddress,
    fifo: boolean,
    create: boolean,
    problems: Problems,
  ): Promise<ExistingQueue | undefined> {
    const dead = await problems.collect(this.#queues.declare({ kind: "dead-letters", of }, fifo, create));
    if (dead === undefined && create) {
      // A queue is not created without its dead letters, but checked if it exists.
      await problems.collect(this.#queues.checkOtherKind(of, fifo));
      return undefined;
    }
    const wanted = dead === undefined ? undefined : redrivePolicy(dead.arn, this.#maxReceives);
    const attributes = wanted === undefined ? {} : { RedrivePolicy: wanted };
    const [existing] = await Promise.all([
      problems.collect(this.#queues.declare(of, fifo, create, attributes)),
      // The order of records does not matter.
      problems.collect(this.#queues.declare({ kind: "quarantine", of }, false, create, LOG_ATTRIBUTES)),
    ]);
    if (existing !== undefined && wanted !== undefined) {
      await problems.collect(checkRedrive(this.#queues, of, existing, wanted, create));
    }
    return existing;
  }
}

/** Deletes the queues and SNS topics of a topology; SNS deletes the subscriptions of a topic with it. */
export async function removeAll({ control }: Clients, registry: Registry, topology: Topology): Promise<void> {
  const work = [...topology.queues, ...topology.subscriptions].map(({ address }) => address);
  const queues = work.flatMap((of): Address[] => [of, { kind: "dead-letters", of }, { kind: "quarantine", of }]);
  await Promise.all([...topology.topics.map(({ address }) => address), ...queues].map((address) => remove(address)));

  async function remove(address: Address): Promise<void> {
    try {
      const { kind, locator } = await registry.find(address);
      if (kind === "topic") await control.sns.send(new DeleteTopicCommand({ TopicArn: locator }));
      else await control.sqs.send(new DeleteQueueCommand({ QueueUrl: locator }));
    } catch (error) {
      if (isMessagingError(error, "not-found") || isMissing(error)) return;
      throw asMessagingError(`removing ${describeAddress(address)}`, error);
    } finally {
      registry.forget(address);
    }
  }
}
