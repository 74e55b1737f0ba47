import type { Channel } from "amqplib";
import type { Topology } from "../../core/adapter.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { type BindingBlueprint, type Blueprint, blueprint } from "./blueprint.ts";
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
import { readPolicies } from "./management.ts";
import { OWN_PREFIX } from "./names.ts";
import type { Settings } from "./options.ts";
import { judgePolicies, type PolicyFindings } from "./policies.ts";
import { serverVersion } from "./server-version.ts";

/** One request to the broker. */
interface Step {
  readonly what: string;
  /** What stands for sure once it succeeded. */
  readonly thing?: Thing;
  readonly makes?: boolean;
  run(channel: Channel): Promise<unknown>;
}

/** Requests on one channel wait for each other, so several channels share the work. */
const LANES = 8;
const REFUSALS: readonly (number | undefined)[] = [ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED];

/**
 * Makes or verifies everything. Resolves with every problem found; rejects if the connection went away meanwhile or did
 * not answer. What stands afterwards is `known`.
 */
export async function establish(
  link: Link,
  topology: Topology,
  settings: Settings,
  known: KnownThings,
): Promise<readonly MessagingError[]> {
  if (topology.mode === "none") return [];
  const version = serverVersion(link.model.connection.serverProperties.version);
  const plan = blueprint(topology, version, settings);
  const problems = [...plan.problems];
  const phases = topology.mode === "create" ? creation(plan) : verification(plan);
  for (const phase of phases) {
    // What is bound to something that could not be made would only repeat its problem.
    if (problems.length > plan.problems.length) break;
    problems.push(...(await runAll(link, settings.requestTimeoutMs, phase, known)));
  }
  return problems;
}

/**
 * What policies do to a topology; undefined where it is not known, for no management API was given. Rejects if that does
 * not answer.
 */
export async function findPolicies(
  link: Link,
  topology: Topology,
  settings: Settings,
): Promise<PolicyFindings | undefined> {
  if (settings.managementUrl === undefined) return undefined;
  const version = serverVersion(link.model.connection.serverProperties.version);
  const lists = await readPolicies(settings.managementUrl, settings);
  return judgePolicies(blueprint(topology, version, settings), lists, version, settings);
}

/** Binds the subscriptions of a topology to their topics, whether they are or not. */
export async function bindSubscriptions(
  link: Link,
  topology: Topology,
  settings: Settings,
  known: KnownThings,
): Promise<void> {
  const version = serverVersion(link.model.connection.serverProperties.version);
  const { bindings } = blueprint(topology, version, settings);
  const ofTopics = bindings.filter(({ from }) => !from.startsWith(OWN_PREFIX));
  await runAll(link, settings.requestTimeoutMs, ofTopics.map(binding), known);
}

function creation({ exchanges, queues, bindings }: Blueprint): Step[][] {
  const makeExchanges = exchanges.map(
    ({ name, type, alternate }): Step => ({
      what: `declare exchange "${name}"`,
      thing: `exchange ${name}`,
      makes: true,
      run: (channel) =>
        channel.assertExchange(name, type, alternate === undefined ? {} : { alternateExchange: alternate }),
    }),
  );
  const makeQueues = queues.map(
    ({ name, arguments: given }): Step => ({
      what: `declare queue "${name}"`,
      thing: `queue ${name}`,
      makes: true,
      run: (channel) => channel.assertQueue(name, { durable: true, arguments: given }),
    }),
  );
  return [[...makeExchanges, ...makeQueues], bindings.map(binding)];
}

function binding({ from, to, toKind, pattern }: BindingBlueprint): Step {
  return {
    what: `bind ${toKind} "${to}" to exchange "${from}"`,
    run: (channel) =>
      toKind === "queue" ? channel.bindQueue(to, from, pattern) : channel.bindExchange(to, from, pattern),
  };
}

/** AMQP tells whether something stands, not with which bindings. */
function verification({ exchanges, queues }: Blueprint): Step[][] {
  return [
    [
      ...exchanges.map(
        ({ name }): Step => ({
          what: `look for exchange "${name}"`,
          thing: `exchange ${name}`,
          run: (channel) => channel.checkExchange(name),
        }),
      ),
      ...queues.map(
        ({ name }): Step => ({
          what: `look for queue "${name}"`,
          thing: `queue ${name}`,
          run: (channel) => channel.checkQueue(name),
        }),
      ),
    ],
  ];
}

async function runAll(
  link: Link,
  requestTimeoutMs: number,
  steps: readonly Step[],
  known: KnownThings,
): Promise<MessagingError[]> {
  const problems: { readonly step: Step; readonly error: MessagingError }[] = [];
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
        problems.push({ step, error: problemOf(step, error) });
      }
    }
    channel?.close().catch(() => {});
  };
  await Promise.all(Array.from({ length: Math.min(LANES, steps.length) }, lane));
  const isOwn = ({ step }: { readonly step: Step }): boolean => step.what.includes(`"${OWN_PREFIX}`);
  return [
    ...problems.filter((problem) => !isOwn(problem)).map(({ error }) => error),
    ...inOne(problems.filter(isOwn).map(({ error }) => error)),
  ];
}

/** The delays have dozens of parts, which fail alike: one problem of each kind speaks for them. */
function inOne(problems: readonly MessagingError[]): MessagingError[] {
  const kinds = Map.groupBy(problems, ({ code }) => code);
  return [...kinds.values()].flatMap(([first, ...rest]) => {
    if (first === undefined || rest.length === 0) return first ?? [];
    const text = `${first.message} (and so for ${rest.length} more parts of the delays, which are named ${OWN_PREFIX}…)`;
    return new MessagingError(first.code, text, { cause: first.cause });
  });
}

function problemOf(step: Step, error: unknown): MessagingError {
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
