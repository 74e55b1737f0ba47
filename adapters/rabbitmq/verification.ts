import type { Channel } from "amqplib";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import type { Connection } from "./connection.ts";
import {
  checkExists,
  type DeclaredResources,
  inOne,
  problemsOf,
  type Resource,
  runAll,
  type Step,
} from "./declared-resources.ts";
import { DELIVERY_EXCHANGE, topicBinding } from "./delay-levels.ts";
import { ACCESS_REFUSED, replyCode, replyText } from "./errors.ts";
import { type ExistingBinding, type ExistingResource, type ExistingTopology, readTopology } from "./management.ts";
import { OWN_PREFIX } from "./names.ts";
import type { Settings } from "./options.ts";
import type { BindingPlan, ExchangePlan, QueuePlan, TopologyPlan } from "./topology-plan.ts";

/** The result of creating or verifying a topology. */
export interface Established {
  readonly problems: readonly MessagingError[];
  /** What could not be compared with its declaration, and what would make it possible. */
  readonly unverified: readonly MessagingError[];
}

/** Declares an exchange. If it exists with other properties, the server closes the channel and changes nothing. */
export function declareExchange(channel: Channel, { name, type, alternate }: ExchangePlan): Promise<unknown> {
  return channel.assertExchange(name, type, alternate === undefined ? {} : { alternateExchange: alternate });
}

/** Declares a queue. If it exists with other properties, the server closes the channel and changes nothing. */
export function declareQueue(channel: Channel, { name, arguments: given }: QueuePlan): Promise<unknown> {
  return channel.assertQueue(name, { durable: true, arguments: given });
}

type Part = { readonly resource: Resource } & (
  | { readonly kind: "exchange"; readonly of: ExchangePlan }
  | { readonly kind: "queue"; readonly of: QueuePlan }
);

/** A resource that exists with other properties. */
interface Conflict {
  readonly resource: Resource;
  readonly error: MessagingError;
}

/**
 * Checks that everything exists with the declared properties. It creates nothing, except a resource that is deleted
 * between the check and the comparison. Rejects if the connection is lost or does not answer.
 */
export async function verify(
  link: Connection,
  plan: TopologyPlan,
  settings: Settings,
  known: DeclaredResources,
): Promise<Established> {
  const { requestTimeoutMs } = settings;
  const parts: readonly Part[] = [
    ...plan.exchanges.map((of): Part => ({ resource: `exchange ${of.name}`, kind: "exchange", of })),
    ...plan.queues.map((of): Part => ({ resource: `queue ${of.name}`, kind: "queue", of })),
  ];
  const absent = await runAll(link, requestTimeoutMs, parts.map(existenceCheck), known);
  const gone = new Set(absent.map(({ step }) => step.resource));
  const existing = parts.filter(({ resource }) => !gone.has(resource));
  const problems = problemsOf(absent);
  const unread: MessagingError[] = [];
  const listed = await readExisting(settings, unread);
  if (listed !== undefined) {
    const conflicts = compareParts(existing, listed, settings);
    // A resource with other properties has to be created anew, with its bindings.
    const alike = existing.filter((part) => !conflicts.some(({ resource }) => resource === part.resource));
    return {
      problems: [
        ...problems,
        ...errorsOf(conflicts),
        ...errorsOf(compareBindings(plan, alike, listed.bindings, settings)),
      ],
      unverified: [],
    };
  }
  const { conflicts, refused } = await compareByDeclaring(link, requestTimeoutMs, existing, known);
  return {
    problems: [...problems, ...errorsOf(conflicts)],
    unverified: [...unread, ...unknownProperties(refused, settings), ...unknownFilters(plan, existing)],
  };
}

/** Finds bindings of subscriptions whose filter is no longer declared: they still bring events. */
export async function staleBindings(plan: TopologyPlan, settings: Settings): Promise<readonly MessagingError[]> {
  if (!plan.bindings.some(isOfTopic)) return [];
  const unread: MessagingError[] = [];
  const listed = await readExisting(settings, unread);
  return listed === undefined ? unread : errorsOf(staleBindingsIn(plan, listed.bindings, settings));
}

async function readExisting(settings: Settings, unread: MessagingError[]): Promise<ExistingTopology | undefined> {
  if (settings.managementUrl === undefined) return undefined;
  try {
    return await readTopology(settings.managementUrl, settings);
  } catch (error) {
    // A failure of the management API must not prevent a start.
    if (!isMessagingError(error)) throw error;
    unread.push(error);
    return undefined;
  }
}

function existenceCheck({ resource, kind, of: { name } }: Part): Step {
  return {
    what: `look for ${kind} "${name}"`,
    resource,
    run: (channel) => checkExists(channel, resource),
  };
}

/** After so many refusals of one kind and no success, the user counts as having no such permission. */
const SAMPLES = 4;

/**
 * Lets the server compare, by declaring: an equal declaration changes nothing, and a mismatch one is refused. This
 * needs the configure permission, and the server logs every refusal. So it declares all resources of a kind only if not
 * all of the first few are refused.
 */
async function compareByDeclaring(
  link: Connection,
  requestTimeoutMs: number,
  parts: readonly Part[],
  known: DeclaredResources,
): Promise<{ readonly conflicts: readonly Conflict[]; readonly refused: readonly Part[] }> {
  const conflicts: Conflict[] = [];
  const refused: Part[] = [];
  const tryAll = async (tried: readonly Part[]): Promise<boolean> => {
    const steps = new Map(tried.map((part): [Step, Part] => [comparison(part), part]));
    const answers = await runAll(link, requestTimeoutMs, [...steps.keys()], known);
    let refusals = 0;
    for (const { step, error } of answers) {
      const part = steps.get(step);
      if (part === undefined) continue;
      if (replyCode(error) === ACCESS_REFUSED) {
        refusals++;
        refused.push(part);
      } else {
        conflicts.push({ resource: part.resource, error: mismatch(part, replyText(error), error) });
      }
    }
    return refusals < tried.length;
  };
  const isOwn = ({ of: { name } }: Part): boolean => name.startsWith(OWN_PREFIX);
  for (const kind of [parts.filter(isOwn), parts.filter((part) => !isOwn(part))]) {
    const others = kind.slice(SAMPLES);
    const isAllowed = kind.length > 0 && (await tryAll(kind.slice(0, SAMPLES)));
    if (isAllowed) await tryAll(others);
    else refused.push(...others);
  }
  return { conflicts, refused };
}

function comparison(part: Part): Step {
  return {
    what: `compare ${part.kind} "${part.of.name}"`,
    run: (channel) => (part.kind === "exchange" ? declareExchange(channel, part.of) : declareQueue(channel, part.of)),
  };
}

function compareParts(
  parts: readonly Part[],
  { queues, exchanges }: ExistingTopology,
  { redactor }: Settings,
): readonly Conflict[] {
  const existing = {
    queue: new Map(queues.map((one) => [one.name, one])),
    exchange: new Map(exchanges.map((one) => [one.name, one])),
  };
  return parts.flatMap((part) => {
    const found = existing[part.kind].get(part.of.name);
    // It was created or deleted during the check.
    if (found === undefined) return [];
    const differences = differencesOf(part, found);
    return differences.length === 0
      ? []
      : { resource: part.resource, error: mismatch(part, redactor.text(differences.join(", "))) };
  });
}

function differencesOf(part: Part, found: ExistingResource): readonly string[] {
  const wanted: Readonly<Record<string, unknown>> =
    part.kind === "queue"
      ? part.of.arguments
      : part.of.alternate === undefined
        ? {}
        : { "alternate-exchange": part.of.alternate };
  const show = (value: unknown): string => (value === undefined ? "none" : JSON.stringify(value));
  const differ = (name: string, has: unknown, declared: unknown): readonly string[] =>
    has === declared ? [] : [`${name} is ${show(has)} instead of ${show(declared)}`];
  const names = new Set([...Object.keys(wanted), ...Object.keys(found.arguments)]);
  // A queue that was declared without this argument has a type too.
  const has = { "x-queue-type": part.kind === "queue" ? found.type : undefined, ...found.arguments };
  return [
    ...differ("durable", found.durable, true),
    ...differ("auto-delete", found.auto_delete, false),
    ...(part.kind === "exchange" ? differ("its type", found.type, part.of.type) : []),
    ...[...names].flatMap((name) => differ(name, (has as Readonly<Record<string, unknown>>)[name], wanted[name])),
  ];
}

/** Compares bindings whose two ends exist; a missing end is reported by its own problem. */
function compareBindings(
  plan: TopologyPlan,
  existing: readonly Part[],
  found: readonly ExistingBinding[],
  settings: Settings,
): readonly Conflict[] {
  const resources = new Set(existing.map(({ resource }) => resource));
  const has = new Set(found.map((one) => keyOf(one.source, one.destination_type, one.destination, one.routing_key)));
  const missing = plan.bindings
    .filter(({ from, to, toKind }) => resources.has(`exchange ${from}`) && resources.has(`${toKind} ${to}`))
    .filter(({ from, to, toKind, pattern }) => !has.has(keyOf(from, toKind, to, pattern)))
    .map(({ from, to, toKind, pattern }): Conflict => {
      const what = `RabbitMQ's ${toKind} "${to}" is not bound to the exchange "${from}" with "${pattern}"`;
      const next = `gets no messages from there; ${DECLARE_IT}`;
      return { resource: `${toKind} ${to}`, error: new MessagingError("conflict", `${what}, and ${next}`) };
    });
  return [...missing, ...staleBindingsIn(plan, found, settings)];
}

function keyOf(source: string, kind: string, destination: string, pattern: string): string {
  return JSON.stringify([source, kind, destination, pattern]);
}

function isOfTopic({ from, toKind }: BindingPlan): boolean {
  return toKind === "queue" && !from.startsWith(OWN_PREFIX);
}

/** The most surplus bindings that are reported one by one. */
const MAX_STALE = 100;

/** Finds bindings from a topic to its subscription's queue whose filter is not the declared one. */
function staleBindingsIn(
  { bindings }: TopologyPlan,
  found: readonly ExistingBinding[],
  { redactor }: Settings,
): readonly Conflict[] {
  const stale = bindings.filter(isOfTopic).flatMap(({ from, to, pattern }) =>
    found
      .filter((one) => one.source === from && one.destination === to && one.destination_type === "queue")
      .filter(({ routing_key: filter }) => filter !== pattern)
      .map(({ routing_key: filter }) => ({ from, to, pattern, filter })),
  );
  const conflicts = stale.slice(0, MAX_STALE).map(({ from, to, pattern, filter }): Conflict => {
    const what = `RabbitMQ's queue "${to}" is also bound to the exchange "${from}" with the filter "${redactor.text(filter)}"`;
    const delayed = `the one from "${DELIVERY_EXCHANGE}" with "${redactor.text(topicBinding(from, filter))}"`;
    const next = `but "${pattern}" is declared; it gets those events too. Remove that binding, and ${delayed}`;
    return { resource: `queue ${to}`, error: new MessagingError("conflict", `${what}, ${next}`) };
  });
  const [next] = stale.slice(MAX_STALE);
  if (next === undefined) return conflicts;
  const more = `RabbitMQ has ${stale.length - MAX_STALE} more such bindings, the next one of the queue "${next.to}"`;
  return [...conflicts, { resource: `queue ${next.to}`, error: new MessagingError("conflict", more) }];
}

function mismatch({ kind, of: { name } }: Part, how: string, cause?: unknown): MessagingError {
  return new MessagingError(
    "conflict",
    `RabbitMQ's ${kind} "${name}" differs from its declaration: ${how}; declare it as it exists, or drain and delete it so that it is created anew`,
    { cause },
  );
}

function errorsOf(conflicts: readonly Conflict[]): readonly MessagingError[] {
  const [own, others] = [true, false].map((isOwn) =>
    conflicts.filter(({ resource }) => resource.includes(` ${OWN_PREFIX}`) === isOwn).map(({ error }) => error),
  );
  return [...(others ?? []), ...inOne(own ?? [])];
}

function unknownProperties(refused: readonly Part[], { username }: Settings): readonly MessagingError[] {
  const [first, ...rest] = refused.toSorted((a, b) => rank(a) - rank(b));
  if (first === undefined) return [];
  const what = `the ${first.kind} "${first.of.name}"${rest.length === 0 ? "" : ` (and ${rest.length} more)`}`;
  return [
    new MessagingError(
      "unauthorized",
      `${what} exists, but it is not known whether its properties are as declared: AMQP compares them only for users that may configure it, and user "${username}" may not; set managementUrl, or grant that permission`,
    ),
  ];
}

/** The user's own resources come first. */
function rank({ of: { name } }: Part): number {
  return name.startsWith(OWN_PREFIX) ? 1 : 0;
}

function unknownFilters({ bindings }: TopologyPlan, existing: readonly Part[]): readonly MessagingError[] {
  const resources = new Set(existing.map(({ resource }) => resource));
  const [first, ...rest] = bindings.filter((one) => isOfTopic(one) && resources.has(`queue ${one.to}`));
  if (first === undefined) return [];
  const more = rest.length === 0 ? "" : ` (nor for ${rest.length} more subscriptions)`;
  return [
    new MessagingError(
      "unsupported",
      `it is not known whether RabbitMQ's queue "${first.to}" is bound to the exchange "${first.from}" with the filter "${first.pattern}"${more}: AMQP does not show bindings; set managementUrl`,
    ),
  ];
}
