import type { Channel } from "amqplib";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { answered, type Connection, openOperationChannel, withChannel } from "./connection.ts";
import {
  ACCESS_REFUSED,
  NOT_FOUND,
  operationError,
  PRECONDITION_FAILED,
  RESOURCE_LOCKED,
  replyCode,
  replyText,
} from "./errors.ts";
import { OWN_PREFIX } from "./names.ts";

/** A queue or an exchange. */
export type Resource = `queue ${string}` | `exchange ${string}`;

export function nameOf(resource: Resource): string {
  return resource.slice(resource.indexOf(" ") + 1);
}

/** Resolves with the number of ready messages if it is a queue. Rejects and closes the channel if it does not exist. */
export async function checkExists(channel: Channel, resource: Resource): Promise<number | undefined> {
  const name = nameOf(resource);
  if (resource.startsWith("queue ")) return (await channel.checkQueue(name)).messageCount;
  await channel.checkExchange(name);
  return undefined;
}

/**
 * Knows which resources exist on the broker. A publish to a missing exchange closes the channel under all other
 * publishes, so each exchange is checked once, on another channel, before the first publish.
 */
export class DeclaredResources {
  readonly #link: () => Connection | undefined;
  readonly #requestTimeoutMs: number;
  readonly #restore: () => Promise<boolean>;
  readonly #existing = new Set<Resource>();
  /** What this adapter declared and may recreate. */
  readonly #declared = new Set<Resource>();
  readonly #checks = new Map<Resource, Promise<void>>();

  /** `restore` declares everything again. It resolves with whether the broker answered, and never rejects. */
  constructor(link: () => Connection | undefined, restore: () => Promise<boolean>, requestTimeoutMs: number) {
    this.#link = link;
    this.#restore = restore;
    this.#requestTimeoutMs = requestTimeoutMs;
  }

  has(resource: Resource): boolean {
    return this.#existing.has(resource);
  }

  add(resource: Resource): void {
    this.#existing.add(resource);
  }

  /** The resource was declared: it exists, and is recreated if it is deleted. */
  declared(resource: Resource): void {
    this.#existing.add(resource);
    this.#declared.add(resource);
  }

  isDeclared(resource: Resource): boolean {
    return this.#declared.has(resource);
  }

  /** All resources that this adapter declared. */
  get declaredResources(): readonly Resource[] {
    return [...this.#declared];
  }

  forget(resource: Resource): void {
    this.#existing.delete(resource);
  }

  /** The connection is lost: every resource has to be checked again. */
  forgetAll(): void {
    this.#existing.clear();
  }

  /**
   * Checks that a resource exists, unless that is known, and recreates it if it was declared here. Rejects with
   * `not-found` if it is still missing, and with another code if the check failed.
   */
  check(resource: Resource): Promise<void> {
    if (this.#existing.has(resource)) return Promise.resolve();
    const running = this.#checks.get(resource);
    if (running !== undefined) return running;
    const check = this.#checkOrRestore(resource).finally(() => this.#checks.delete(resource));
    this.#checks.set(resource, check);
    return check;
  }

  /**
   * A queue did not get a message that its exchange should route to it: the queue or its binding is gone. Recreates
   * both if they were declared here. Otherwise, or if that fails, rejects with `not-found`.
   */
  async repair(resource: Resource): Promise<void> {
    this.forget(resource);
    if (this.#declared.has(resource)) return this.#recreate(resource, missing(resource));
    await this.#checkOnce(resource);
    const name = nameOf(resource);
    throw new MessagingError(
      "not-found",
      `RabbitMQ's exchange "${name}" does not route to the queue "${name}"; ${DECLARE_IT}`,
    );
  }

  async #checkOrRestore(resource: Resource): Promise<void> {
    try {
      await this.#checkOnce(resource);
    } catch (error) {
      if (!isMessagingError(error, "not-found") || !this.#declared.has(resource)) throw error;
      await this.#recreate(resource, error);
    }
  }

  async #recreate(resource: Resource, gone: MessagingError): Promise<void> {
    let couldAsk = await this.#restore();
    // A run that was already under way may have passed the resource before it was deleted.
    if (couldAsk && !this.#existing.has(resource)) couldAsk = await this.#restore();
    if (this.#existing.has(resource)) return;
    throw couldAsk ? gone : new MessagingError("unreachable", `not connected to RabbitMQ while recreating ${resource}`);
  }

  async #checkOnce(resource: Resource): Promise<void> {
    const link = this.#link();
    if (link === undefined) throw new MessagingError("unreachable", "not connected to RabbitMQ; reconnecting");
    try {
      await withChannel(link, this.#requestTimeoutMs, `look for ${resource}`, (channel) =>
        checkExists(channel, resource),
      );
    } catch (error) {
      if (replyCode(error) === NOT_FOUND) throw missing(resource, error);
      throw operationError(error, `look for ${resource}`, "try again");
    }
    this.#existing.add(resource);
  }
}

/** The error for a destination that does not exist. */
export function missing(resource: Resource, cause?: unknown): MessagingError {
  const [kind, name] = resource.split(" ");
  return new MessagingError(
    "not-found",
    `RabbitMQ has no ${kind} "${name}"; ${DECLARE_IT}, which need the configure permission`,
    { cause },
  );
}

/** One request to the broker. */
export interface Step {
  readonly what: string;
  /** The resource that exists if the step succeeds. */
  readonly resource?: Resource;
  readonly makes?: boolean;
  run(channel: Channel): Promise<unknown>;
}

/** A step that the broker refused. */
interface Refused {
  readonly step: Step;
  readonly error: unknown;
}

/** Requests on one channel wait for each other, so several channels share the work. */
const MAX_CHANNELS = 8;
const REFUSALS: readonly (number | undefined)[] = [ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED];

/** Runs every step, and resolves with the refused ones, in the order of the steps. Rejects if the connection breaks or does not answer. */
export async function runAll(
  link: Connection,
  requestTimeoutMs: number,
  steps: readonly Step[],
  known: DeclaredResources,
): Promise<readonly Refused[]> {
  const refused = new Map<Step, Refused>();
  const left = [...steps];
  let working = 0;
  const worker = async (): Promise<void> => {
    let channel: Channel | undefined;
    for (let step = left.shift(); step !== undefined; step = left.shift()) {
      if (channel === undefined) {
        try {
          channel = await openOperationChannel(link, requestTimeoutMs);
        } catch (error) {
          if (!isMessagingError(error, "overloaded") || working === 0) throw broken(step, error);
          // The connection has no more channels: the other workers do these steps.
          left.unshift(step);
          return;
        }
        working++;
      }
      try {
        await answered(link, requestTimeoutMs, step.what, step.run(channel));
        if (step.resource !== undefined) {
          if (step.makes) known.declared(step.resource);
          else known.add(step.resource);
        }
      } catch (error) {
        if (isMessagingError(error) || !REFUSALS.includes(replyCode(error))) throw broken(step, error);
        // The refusal closed the channel.
        channel = undefined;
        working--;
        if (step.resource !== undefined) known.forget(step.resource);
        refused.set(step, { step, error });
      }
    }
    if (channel !== undefined) working--;
    channel?.close().catch(() => {});
  };
  await Promise.all(Array.from({ length: Math.min(MAX_CHANNELS, steps.length) }, worker));
  return steps.flatMap((step) => refused.get(step) ?? []);
}

/** Converts refusals to problems. The delays have dozens of resources that fail alike: one problem for each code. */
export function problemsOf(refused: readonly Refused[]): readonly MessagingError[] {
  const isOwn = ({ step }: Refused): boolean => step.what.includes(`"${OWN_PREFIX}`);
  return [...refused.filter((one) => !isOwn(one)).map(problemOf), ...inOne(refused.filter(isOwn).map(problemOf))];
}

/** Merges problems of the delays: one for each code. */
export function inOne(problems: readonly MessagingError[]): readonly MessagingError[] {
  const kinds = Map.groupBy(problems, ({ code }) => code);
  return [...kinds.values()].flatMap(([first, ...rest]) => {
    if (first === undefined || rest.length === 0) return first ?? [];
    const text = `${first.message} (and ${rest.length} more resources of the delays, named ${OWN_PREFIX}…)`;
    return new MessagingError(first.code, text, { cause: first.cause });
  });
}

function problemOf({ step, error }: Refused): MessagingError {
  if (replyCode(error) === NOT_FOUND && step.resource !== undefined) return missing(step.resource, error);
  return operationError(error, step.what, adviceFor(replyText(error)));
}

/** The server uses one reply code for all of these. */
function adviceFor(text: string): string {
  if (/inequivalent/.test(text))
    return "it exists with other properties: declare the same ones here, or drain and delete it so that it is created anew";
  if (/^invalid arg/.test(text)) return "correct it in the queueArguments of rabbitmq(), if it is one of them";
  return /limit .*reached/.test(text) ? "delete what is not used, or raise the limit" : "see the server's log";
}

function broken(step: Step, error: unknown): MessagingError {
  return isMessagingError(error)
    ? error
    : new MessagingError("unreachable", `the connection to RabbitMQ broke during: ${step.what} (${replyText(error)})`, {
        cause: error,
      });
}
