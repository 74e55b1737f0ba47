import { MessagingError } from "../../core/errors.ts";
import type { Blueprint, ExchangeBlueprint, QueueBlueprint } from "./blueprint.ts";
import { DEFAULT_CONSUMER_TIMEOUT_MS } from "./hold-limit.ts";
import { OWN_PREFIX } from "./names.ts";
import type { Settings } from "./options.ts";
import type { ServerVersion } from "./server-version.ts";

/** A policy as the management API tells it. */
export interface Policy {
  readonly name: string;
  /** A regular expression over names. */
  readonly pattern: string;
  readonly "apply-to"?: string;
  readonly priority?: number;
  readonly definition: Readonly<Record<string, unknown>>;
}

/** Of each list one policy applies to a queue or exchange: the first of the highest priority whose pattern matches. */
export interface PolicyLists {
  readonly policies: readonly Policy[];
  readonly operatorPolicies: readonly Policy[];
}

/** What policies do to our queues and exchanges. */
export interface PolicyFindings {
  /** They lose messages, or break what is promised. */
  readonly problems: readonly MessagingError[];
  /** They change how it works. */
  readonly notices: readonly MessagingError[];
}

/** What is to be known of the adapter. */
type PolicySettings = Pick<Settings, "consumerTimeoutMs" | "words">;

/** What a key of a policy does, where it does something. */
interface Effect {
  readonly isProblem: boolean;
  readonly text: string;
}

/** RabbitMQ applies no policy to a quorum queue that has a key of another kind of queue. */
const NOT_FOR_QUORUM =
  /^(?:max-priority|queue-mode|ha-.*|queue-master-locator|max-age|stream-max-segment-size-bytes|initial-cluster-size)$/;
const FOR_QUEUES = ["all", "queues", "quorum_queues"];
const FOR_EXCHANGES = ["all", "exchanges"];

/** What the policies of a virtual host do to what a blueprint wants there. */
export function judgePolicies(
  { queues, exchanges }: Pick<Blueprint, "queues" | "exchanges">,
  { policies, operatorPolicies }: PolicyLists,
  version: ServerVersion,
  settings: PolicySettings,
): PolicyFindings {
  const found = new Map<string, { readonly isProblem: boolean; readonly text: string; readonly names: string[] }>();
  const add = (kind: string, policy: Policy, key: string, name: string, { isProblem, text }: Effect): void => {
    const shown = (text: string): string => settings.words.text(text);
    const value = shown(JSON.stringify(policy.definition[key]));
    const what = `the ${kind} "${shown(policy.name)}" sets ${key} to ${value}: ${text}`;
    const finding = found.get(what) ?? { isProblem, text: what, names: [] };
    finding.names.push(name);
    found.set(what, finding);
  };
  const judge = (
    name: string,
    appliesTo: readonly string[],
    effect: (key: string, value: unknown) => Effect | undefined,
  ) => {
    for (const [kind, list] of [
      ["policy", policies],
      ["operator policy", operatorPolicies],
    ] as const) {
      for (const policy of applying(list, name, appliesTo)) {
        for (const [key, value] of Object.entries(policy.definition)) {
          const does = effect(key, value);
          if (does !== undefined) add(kind, policy, key, name, does);
        }
      }
    }
  };
  for (const queue of queues) {
    judge(queue.name, FOR_QUEUES, (key, value) => effectOnQueue(queue, key, value, version, settings));
  }
  for (const exchange of exchanges) {
    judge(exchange.name, FOR_EXCHANGES, (key) => effectOnExchange(exchange, key));
  }
  const errors = (isProblem: boolean): MessagingError[] =>
    [...found.values()].filter((one) => one.isProblem === isProblem).map(({ text, names }) => asError(text, names));
  return {
    problems: errors(true),
    notices: [...errors(false), ...unreadable([...policies, ...operatorPolicies], settings)],
  };
}

/** Those of equal priority are all taken, for which of them RabbitMQ takes is not told. */
function applying(list: readonly Policy[], name: string, appliesTo: readonly string[]): readonly Policy[] {
  const matching = list.filter((policy) => {
    if (!appliesTo.includes(policy["apply-to"] ?? "all")) return false;
    if (appliesTo === FOR_QUEUES && Object.keys(policy.definition).some((key) => NOT_FOR_QUORUM.test(key)))
      return false;
    return expressionOf(policy)?.test(name) ?? false;
  });
  const highest = Math.max(...matching.map(({ priority = 0 }) => priority));
  return matching.filter(({ priority = 0 }) => priority === highest);
}

function expressionOf({ pattern }: Policy): RegExp | undefined {
  try {
    return new RegExp(pattern);
  } catch {
    // RabbitMQ's expressions are Perl's.
    return undefined;
  }
}

function unreadable(policies: readonly Policy[], { words }: PolicySettings): MessagingError[] {
  return policies
    .filter((policy) => expressionOf(policy) === undefined)
    .map(
      ({ name }) =>
        new MessagingError(
          "unsupported",
          `the pattern of the policy "${words.text(name)}" cannot be read here, so it is not known what it does to queues of anybroker; look at it yourself`,
        ),
    );
}

const MOST_NAMES = 5;

function asError(text: string, names: readonly string[]): MessagingError {
  const shown = names.slice(0, MOST_NAMES).map((name) => `"${name}"`);
  const more = names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : "";
  const where = `on ${shown.join(", ")}${more}`;
  const next = "leave these names out of its pattern, or give them a policy of a higher priority without it";
  return new MessagingError("conflict", `${text} (${where}); ${next}`);
}

function effectOnExchange({ name, alternate }: ExchangeBlueprint, key: string): Effect | undefined {
  // Where the exchange has an argument, that counts.
  if (key !== "alternate-exchange" || alternate !== undefined) return undefined;
  return name.startsWith(OWN_PREFIX)
    ? { isProblem: true, text: "delayed messages go there, and not back, where their wait queue is gone" }
    : { isProblem: false, text: "events that no subscription takes go there, and are not refused as unroutable" };
}

type Rule = (
  queue: QueueBlueprint,
  value: unknown,
  version: ServerVersion,
  settings: Pick<Settings, "consumerTimeoutMs">,
) => Effect | undefined;

const isDead = ({ role }: QueueBlueprint): boolean => role === "dead-letters" || role === "undelivered";
const problem = (text: string): Effect => ({ isProblem: true, text });
const notice = (text: string): Effect => ({ isProblem: false, text });

const FORGOTTEN = "it is forgotten sooner which messages their consumers crashed over";

const limited: Rule = (queue) => {
  if (queue.role === "work") return undefined;
  return queue.role === "wait"
    ? notice("delayed messages and retries over it are not taken, and wait where they are")
    : notice("what is over it is not taken, and stays unsettled where it is");
};

/** What each key does to a quorum queue as it is declared here. What is not listed does nothing that matters. */
const RULES: Readonly<Record<string, Rule>> = {
  expires: () =>
    problem("RabbitMQ deletes a queue that had no consumer for so long, with the messages on it, which are lost"),
  "message-ttl": (queue, value) => {
    const ttlMs = Number(value);
    if (isDead(queue)) return problem("RabbitMQ drops what is there for so long, which is lost");
    if (queue.role === "work") return notice("messages older than that are dead-lettered as expired");
    if (ttlMs >= Number(queue.arguments["x-message-ttl"])) return undefined;
    return queue.role === "wait" ? problem("delayed messages come too early") : notice(FORGOTTEN);
  },
  "max-length": limited,
  "max-length-bytes": limited,
  overflow: (_queue, value) =>
    value === "reject-publish"
      ? undefined
      : problem("it counts before the queue's own: a full queue drops messages, and dead-lettering is at most once"),
  "dead-letter-routing-key": ({ role }) =>
    role === "wait" ? problem("delayed messages lose the way to where they are to be delivered") : undefined,
  "delivery-limit": (queue, value, version) => {
    const limit = Number(value);
    if (limit < 0 || queue.role === "wait") return undefined;
    if (queue.role === "quarantine") return notice(FORGOTTEN);
    if (!isDead(queue)) {
      const isLower = limit < Number(queue.arguments["x-delivery-limit"]);
      return isLower ? notice("RabbitMQ gives up a message after so many deliveries") : undefined;
    }
    return version.atLeast(4, 3)
      ? notice("a dead letter is dropped after so many deliveries whose reader died")
      : problem("a dead letter is dropped after it was looked at so often, which is lost");
  },
  "consumer-timeout": ({ role }, value, version, { consumerTimeoutMs = DEFAULT_CONSUMER_TIMEOUT_MS }) => {
    if (version.atLeast(4, 3) || role === "wait" || role === "quarantine" || Number(value) >= consumerTimeoutMs)
      return undefined;
    return notice("deliveries are taken back after that; give it to rabbitmq() as consumerTimeoutMs");
  },
  "delayed-retry-type": ({ role, isOrdered }, value) => {
    if (value === "disabled") return undefined;
    if (role === "quarantine")
      return problem("a reader misses what another one gave back, and takes the living for dead");
    return isOrdered
      ? problem("what is given back comes again behind what follows, which breaks the order")
      : undefined;
  },
};

function effectOnQueue(
  queue: QueueBlueprint,
  key: string,
  value: unknown,
  version: ServerVersion,
  settings: Pick<Settings, "consumerTimeoutMs">,
): Effect | undefined {
  return Object.hasOwn(RULES, key) ? RULES[key]?.(queue, value, version, settings) : undefined;
}
