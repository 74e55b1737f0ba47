import type { Channel } from "amqplib";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { answered, type Connection, openChannel, withChannel } from "./connection.ts";
import {
  ACCESS_REFUSED,
  NOT_FOUND,
  operationError,
  PRECONDITION_FAILED,
  RESOURCE_LOCKED,
  replyCode,
} from "./errors.ts";
import { OWN_PREFIX } from "./names.ts";

/** A queue or an exchange. */
export type Resource = `queue ${string}` | `exchange ${string}`;

/**
 * What is known to stand on the broker. One publish to an exchange that does not exist closes the channel under every
 * other publish on it, so that an exchange is looked for once, on a channel of its own, before anything goes there.
 */
export class DeclaredResources {
  readonly #link: () => Connection | undefined;
  readonly #requestTimeoutMs: number;
  readonly #restore: () => Promise<boolean>;
  readonly #existing = new Set<Resource>();
  /** What this adapter declared, and may make again. */
  readonly #declared = new Set<Resource>();
  /** What stands with the properties that this adapter gives it, as far as is known. */
  readonly #verified = new Set<Resource>();
  readonly #checks = new Map<Resource, Promise<void>>();

  /** `restore` declares everything again that was declared, and tells whether it could; it never rejects. */
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

  /** Stands because it was declared, and is to be declared again if it ever does not. */
  declared(resource: Resource): void {
    this.#existing.add(resource);
    this.#declared.add(resource);
    this.#verified.add(resource);
  }

  isDeclared(resource: Resource): boolean {
    return this.#declared.has(resource);
  }

  /** All that this adapter declared. */
  get declaredThings(): readonly Resource[] {
    return [...this.#declared];
  }

  /** Whether it was declared as this adapter declares it, and nothing was heard against that since. */
  isVerified(resource: Resource): boolean {
    return this.#verified.has(resource);
  }

  forget(resource: Resource): void {
    this.#existing.delete(resource);
    this.#verified.delete(resource);
  }

  /** The connection was lost: whatever stands has to be seen anew. */
  forgetAll(): void {
    this.#existing.clear();
    this.#verified.clear();
  }

  /**
   * Looks for it unless it is known, and makes it again if it was declared here. Rejects with `not-found` if it is
   * missing all the same, with another code if nobody could look.
   */
  check(resource: Resource): Promise<void> {
    if (this.#existing.has(resource)) return Promise.resolve();
    const running = this.#checks.get(resource);
    if (running !== undefined) return running;
    const check = this.#lookOrRestore(resource).finally(() => this.#checks.delete(resource));
    this.#checks.set(resource, check);
    return check;
  }

  /**
   * A queue that its exchange should lead to did not take a message: it is gone, or not bound any more. Makes it again if
   * it was declared here; otherwise, or if it cannot be made, rejects with `not-found`.
   */
  async mend(resource: Resource): Promise<void> {
    this.forget(resource);
    if (this.#declared.has(resource)) return this.#makeAgain(resource, missing(resource));
    await this.#look(resource);
    const name = resource.slice(resource.indexOf(" ") + 1);
    throw new MessagingError(
      "not-found",
      `the exchange "${name}" of RabbitMQ does not lead to the queue "${name}"; ${DECLARE_IT}`,
    );
  }

  async #lookOrRestore(resource: Resource): Promise<void> {
    try {
      await this.#look(resource);
    } catch (error) {
      if (!isMessagingError(error, "not-found") || !this.#declared.has(resource)) throw error;
      await this.#makeAgain(resource, error);
    }
  }

  async #makeAgain(resource: Resource, gone: MessagingError): Promise<void> {
    let couldAsk = await this.#restore();
    // One that was under way may have come by before it vanished.
    if (couldAsk && !this.#existing.has(resource)) couldAsk = await this.#restore();
    if (this.#existing.has(resource)) return;
    throw couldAsk
      ? gone
      : new MessagingError("unreachable", `not connected to RabbitMQ while ${resource} was made again`);
  }

  async #look(resource: Resource): Promise<void> {
    const link = this.#link();
    if (link === undefined) throw new MessagingError("unreachable", "not connected to RabbitMQ at the moment");
    const isQueue = resource.startsWith("queue ");
    const name = resource.slice(resource.indexOf(" ") + 1);
    try {
      await withChannel(link, this.#requestTimeoutMs, `look for ${resource}`, (channel) =>
        isQueue ? channel.checkQueue(name) : channel.checkExchange(name).then(() => undefined),
      );
    } catch (error) {
      if (replyCode(error) === NOT_FOUND) throw missing(resource, error);
      throw operationError(error, `look for ${resource}`, "try again");
    }
    this.#existing.add(resource);
  }
}

/** A destination that does not stand on the broker. */
export function missing(resource: Resource, cause?: unknown): MessagingError {
  const [kind, name] = resource.split(" ");
  return new MessagingError(
    "not-found",
    `RabbitMQ has no ${kind} "${name}"; ${DECLARE_IT}, which need the rights to configure`,
    { cause },
  );
}

/** One request to the broker. */
export interface Step {
  readonly what: string;
  /** What stands for sure once it succeeded. */
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
const MOST_AT_ONCE = 8;
const REFUSALS: readonly (number | undefined)[] = [ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED];

/** Takes every step, and tells which were refused. Rejects if the connection breaks or does not answer. */
export async function runAll(
  link: Connection,
  requestTimeoutMs: number,
  steps: readonly Step[],
  known: DeclaredResources,
): Promise<readonly Refused[]> {
  const refused: Refused[] = [];
  const left = [...steps];
  let working = 0;
  const worker = async (): Promise<void> => {
    let channel: Channel | undefined;
    for (let step = left.shift(); step !== undefined; step = left.shift()) {
      if (channel === undefined) {
        try {
          channel = await openChannel(link, requestTimeoutMs);
        } catch (error) {
          if (!isMessagingError(error, "overloaded") || working === 0) throw error;
          // The connection has no more channels: the others take its steps.
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
        refused.push({ step, error });
      }
    }
    if (channel !== undefined) working--;
    channel?.close().catch(() => {});
  };
  await Promise.all(Array.from({ length: Math.min(MOST_AT_ONCE, steps.length) }, worker));
  return refused;
}

/** Refusals as problems; those of the delays, which have dozens of parts that fail alike, in one of each kind. */
export function problemsOf(refused: readonly Refused[]): readonly MessagingError[] {
  const isOwn = ({ step }: Refused): boolean => step.what.includes(`"${OWN_PREFIX}`);
  return [...refused.filter((one) => !isOwn(one)).map(problemOf), ...inOne(refused.filter(isOwn).map(problemOf))];
}

/** One problem of each code speaks for all of the delays' parts. */
export function inOne(problems: readonly MessagingError[]): readonly MessagingError[] {
  const kinds = Map.groupBy(problems, ({ code }) => code);
  return [...kinds.values()].flatMap(([first, ...rest]) => {
    if (first === undefined || rest.length === 0) return first ?? [];
    const text = `${first.message} (and so for ${rest.length} more parts of the delays, which are named ${OWN_PREFIX}…)`;
    return new MessagingError(first.code, text, { cause: first.cause });
  });
}

function problemOf({ step, error }: Refused): MessagingError {
  if (replyCode(error) === NOT_FOUND && step.resource !== undefined) return missing(step.resource, error);
  return operationError(
    error,
    step.what,
    "it stands there with other properties: give the same ones here, or drain and delete it so that it is declared anew",
  );
}

function broken(step: Step, error: unknown): MessagingError {
  return isMessagingError(error)
    ? error
    : new MessagingError("unreachable", `the connection to RabbitMQ broke while it was to ${step.what}`, {
        cause: error,
      });
}
