import type { Channel } from "amqplib";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { answered, openChannel } from "./channels.ts";
import {
  ACCESS_REFUSED,
  NOT_FOUND,
  operationError,
  PRECONDITION_FAILED,
  RESOURCE_LOCKED,
  replyCode,
} from "./errors.ts";
import { type KnownThings, missing, type Thing } from "./known.ts";
import type { Link } from "./link.ts";
import { OWN_PREFIX } from "./names.ts";

/** One request to the broker. */
export interface Step {
  readonly what: string;
  /** What stands for sure once it succeeded. */
  readonly thing?: Thing;
  readonly makes?: boolean;
  run(channel: Channel): Promise<unknown>;
}

/** A step that the broker refused. */
export interface Refused {
  readonly step: Step;
  readonly error: unknown;
}

/** Requests on one channel wait for each other, so several channels share the work. */
const LANES = 8;
const REFUSALS: readonly (number | undefined)[] = [ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED];

/** Takes every step, and tells which were refused. Rejects if the connection breaks or does not answer. */
export async function runAll(
  link: Link,
  requestTimeoutMs: number,
  steps: readonly Step[],
  known: KnownThings,
): Promise<readonly Refused[]> {
  const refused: Refused[] = [];
  const queue = steps.values();
  const lane = async (): Promise<void> => {
    let channel: Channel | undefined;
    for (const step of queue) {
      channel ??= await openChannel(link, requestTimeoutMs);
      try {
        await answered(link, requestTimeoutMs, step.what, step.run(channel));
        if (step.thing !== undefined) {
          if (step.makes) known.declared(step.thing);
          else known.add(step.thing);
        }
      } catch (error) {
        if (isMessagingError(error) || !REFUSALS.includes(replyCode(error))) throw broken(step, error);
        // The refusal closed the channel.
        channel = undefined;
        if (step.thing !== undefined) known.forget(step.thing);
        refused.push({ step, error });
      }
    }
    channel?.close().catch(() => {});
  };
  await Promise.all(Array.from({ length: Math.min(LANES, steps.length) }, lane));
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
  if (replyCode(error) === NOT_FOUND && step.thing !== undefined) return missing(step.thing, error);
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
