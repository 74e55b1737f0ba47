import { setImmediate } from "node:timers/promises";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { type NamePattern, namePattern } from "./name-pattern.ts";
import { DEFAULT_CONSUMER_TIMEOUT_MS, OWN_PREFIX } from "./names.ts";
import type { Settings } from "./options.ts";
import type { ServerVersion } from "./server-version.ts";
import type { ServerWords } from "./server-words.ts";
import type { ExchangePlan, QueuePlan, TopologyPlan } from "./topology-plan.ts";

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

/** By name, the policies that the server says it applies to a queue or an exchange: one of each list, or none. */
type Applied = ReadonlyMap<
  string,
  { readonly policy: string | undefined; readonly operatorPolicy: string | undefined }
>;

/** What the server says it applies to what stands. */
export interface AppliedPolicies {
  readonly queues: Applied;
  readonly exchanges: Applied;
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

/** The most policies of a list that are looked at: those of the highest priorities. */
const MOST_POLICIES = 1_000;
/** The most steps of all tests together, and of one: some seconds, and some milliseconds. */
const MOST_STEPS = 1_000_000_000;
const MOST_STEPS_OF_ONE = 1_000_000;
/** How long the event loop waits at most for some tests. */
const TURN_MS = 10;
const MOST_FINDINGS = 100;
const MOST_NAMES = 5;

/** A policy, read once. */
interface ReadPolicy {
  readonly kind: "policy" | "operator policy";
  readonly policy: Policy;
  readonly priority: number;
  /** Undefined where it is not run here. */
  readonly pattern: NamePattern | undefined;
  readonly shownName: string;
  /** Those keys that do anything, with what is shown of their values. */
  readonly keys: readonly (readonly [key: string, shownValue: string])[];
  readonly isForQuorum: boolean;
}

interface Finding {
  readonly isProblem: boolean;
  readonly text: string;
  readonly names: string[];
}

/**
 * What the policies of a virtual host do to what a topologyPlan wants there. A pattern is run here only if its test is known to
 * end soon; for the others `askApplied` is called, once, and where it does not tell either there is a notice. Never rejects
 * for what `askApplied` rejects with.
 */
export async function judgePolicies(
  { queues, exchanges }: Pick<TopologyPlan, "queues" | "exchanges">,
  { policies, operatorPolicies }: PolicyLists,
  version: ServerVersion,
  settings: PolicySettings,
  askApplied: () => Promise<AppliedPolicies>,
): Promise<PolicyFindings> {
  const found = new Map<string, Finding>();
  const unknown = new Unknown();
  const { words } = settings;
  const lists = [readList("policy", policies, words), readList("operator policy", operatorPolicies, words)];
  const matching = new Matching(askApplied);
  const judge = async (
    name: string,
    resource: keyof AppliedPolicies,
    effect: (key: string, value: unknown) => Effect | undefined,
  ): Promise<void> => {
    for (const list of lists) {
      for (const { kind, policy, shownName, keys } of await matching.applying(list, name, resource, unknown)) {
        for (const [key, shownValue] of keys) {
          const does = effect(key, policy.definition[key]);
          if (does === undefined) continue;
          const text = `the ${kind} "${shownName}" sets ${key} to ${shownValue}: ${does.text}`;
          const finding = found.get(text) ?? { isProblem: does.isProblem, text, names: [] };
          finding.names.push(name);
          found.set(text, finding);
        }
      }
    }
  };
  for (const queue of queues) {
    await judge(queue.name, "queues", (key, value) => effectOnQueue(queue, key, value, version, settings));
  }
  for (const exchange of exchanges) {
    await judge(exchange.name, "exchanges", (key) => effectOnExchange(exchange, key));
  }
  const errors = (isProblem: boolean): MessagingError[] =>
    fewOf([...found.values()].filter((one) => one.isProblem === isProblem));
  const left = Math.max(0, policies.length - MOST_POLICIES) + Math.max(0, operatorPolicies.length - MOST_POLICIES);
  return {
    problems: errors(true),
    notices: [...errors(false), ...matching.failures, ...unknown.errors(), ...(left > 0 ? [tooMany(left)] : [])],
  };
}

function readList(kind: ReadPolicy["kind"], policies: readonly Policy[], words: ServerWords): readonly ReadPolicy[] {
  return policies
    .map((policy) => ({ policy, priority: typeof policy.priority === "number" ? policy.priority : 0 }))
    .sort((a, b) => b.priority - a.priority)
    .slice(0, MOST_POLICIES)
    .map(({ policy, priority }) => ({
      kind,
      policy,
      priority,
      pattern: namePattern(policy.pattern),
      shownName: words.text(policy.name),
      keys: KEYS.filter((key) => Object.hasOwn(policy.definition, key)).map(
        (key) => [key, words.text(JSON.stringify(policy.definition[key]))] as const,
      ),
      isForQuorum: !Object.keys(policy.definition).some((key) => NOT_FOR_QUORUM.test(key)),
    }));
}

/** Finds which policies apply to a name. */
class Matching {
  readonly failures: MessagingError[] = [];
  readonly #askApplied: () => Promise<AppliedPolicies>;
  #applied: Promise<AppliedPolicies | undefined> | undefined;
  #steps = 0;
  #turnSince = performance.now();

  constructor(askApplied: () => Promise<AppliedPolicies>) {
    this.#askApplied = askApplied;
  }

  /** Those of equal priority are all taken, for which of them RabbitMQ takes is not told by their patterns. */
  async applying(
    list: readonly ReadPolicy[],
    name: string,
    resource: keyof AppliedPolicies,
    unknown: Unknown,
  ): Promise<readonly ReadPolicy[]> {
    const isQueue = resource === "queues";
    const targets = isQueue ? FOR_QUEUES : FOR_EXCHANGES;
    const matched: ReadPolicy[] = [];
    const untried: ReadPolicy[] = [];
    for (const one of list) {
      if (!targets.includes(one.policy["apply-to"] ?? "all") || (isQueue && !one.isForQuorum)) continue;
      // The list begins with the highest priority.
      if (matched.some(({ priority }) => priority > one.priority)) break;
      const does = await this.#test(one, name);
      if (does === undefined) untried.push(one);
      else if (does) matched.push(one);
    }
    if (untried.length === 0) return matched;
    const told = (await this.#ask())?.[resource].get(name);
    if (told !== undefined) {
      return list.filter(({ kind, policy }) => policy.name === (kind === "policy" ? told.policy : told.operatorPolicy));
    }
    for (const one of untried) unknown.add(one, name);
    return matched;
  }

  async #test({ pattern }: ReadPolicy, name: string): Promise<boolean | undefined> {
    const steps = pattern?.steps(name.length) ?? Number.POSITIVE_INFINITY;
    if (steps > MOST_STEPS_OF_ONE || this.#steps + steps > MOST_STEPS) return undefined;
    this.#steps += steps;
    if (performance.now() - this.#turnSince > TURN_MS) {
      await setImmediate();
      this.#turnSince = performance.now();
    }
    return pattern?.test(name);
  }

  #ask(): Promise<AppliedPolicies | undefined> {
    this.#applied ??= this.#askApplied().catch((error: unknown) => {
      if (!isMessagingError(error)) throw error;
      this.failures.push(error);
      return undefined;
    });
    return this.#applied;
  }
}

/** Policies of which nobody knows what they apply to. */
class Unknown {
  readonly #policies = new Set<ReadPolicy>();
  readonly #names = new Set<string>();

  add(policy: ReadPolicy, name: string): void {
    this.#policies.add(policy);
    this.#names.add(name);
  }

  errors(): readonly MessagingError[] {
    if (this.#policies.size === 0) return [];
    const what = few([...this.#policies].map(({ shownName }) => shownName));
    const why =
      "their patterns are not run here, for they may take too long or mean something else, and RabbitMQ does not tell it";
    return [
      new MessagingError(
        "unsupported",
        `whether these policies apply to ${few([...this.#names])} is not known: ${what}; ${why}; look at them yourself`,
      ),
    ];
  }
}

function tooMany(left: number): MessagingError {
  return new MessagingError(
    "unsupported",
    `RabbitMQ has ${left} more policies in this virtual host than are looked at (${MOST_POLICIES} of a list, of the highest priorities), so it is not known what these do to queues of anybroker; remove what nobody needs, or look at them yourself`,
  );
}

/** Names that are shown, a few of them. */
function few(names: readonly string[]): string {
  const shown = names.slice(0, MOST_NAMES).map((name) => `"${name}"`);
  return `${shown.join(", ")}${names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : ""}`;
}

function fewOf(findings: readonly Finding[]): MessagingError[] {
  const errors = findings.slice(0, MOST_FINDINGS).map(({ text, names }) => {
    const next = "leave these names out of its pattern, or give them a policy of a higher priority without it";
    return new MessagingError("conflict", `${text} (on ${few(names)}); ${next}`);
  });
  const more = findings.length - errors.length;
  if (more <= 0) return errors;
  return [
    ...errors,
    new MessagingError("conflict", `policies of RabbitMQ do ${more} more such things to names of anybroker`),
  ];
}

function effectOnExchange({ name, alternate }: ExchangePlan, key: string): Effect | undefined {
  // Where the exchange has an argument, that counts.
  if (key !== "alternate-exchange" || alternate !== undefined) return undefined;
  return name.startsWith(OWN_PREFIX)
    ? { isProblem: true, text: "delayed messages go there, and not back, where their wait queue is gone" }
    : { isProblem: false, text: "events that no subscription takes go there, and are not refused as unroutable" };
}

type Rule = (
  queue: QueuePlan,
  value: unknown,
  version: ServerVersion,
  settings: Pick<Settings, "consumerTimeoutMs">,
) => Effect | undefined;

const isDead = ({ role }: QueuePlan): boolean => role === "dead-letters" || role === "undelivered";
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

/** What is listed of queues, and of exchanges. */
const KEYS: readonly string[] = [...Object.keys(RULES), "alternate-exchange"];

function effectOnQueue(
  queue: QueuePlan,
  key: string,
  value: unknown,
  version: ServerVersion,
  settings: Pick<Settings, "consumerTimeoutMs">,
): Effect | undefined {
  return Object.hasOwn(RULES, key) ? RULES[key]?.(queue, value, version, settings) : undefined;
}
