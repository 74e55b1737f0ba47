import { setImmediate } from "node:timers/promises";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { DEFAULT_CONSUMER_TIMEOUT_MS, OWN_PREFIX } from "./names.ts";
import type { Settings } from "./options.ts";
import type { Redactor } from "./redactor.ts";
import type { ServerVersion } from "./server-version.ts";
import type { ExchangePlan, QueuePlan, TopologyPlan } from "./topology-plan.ts";

/** A policy, as the management API returns it. */
export interface Policy {
  readonly name: string;
  /** A regular expression for names. */
  readonly pattern: string;
  readonly "apply-to"?: string;
  readonly priority?: number;
  readonly definition: Readonly<Record<string, unknown>>;
}

/** One policy of each list applies to a queue or exchange: the matching one with the highest priority. */
export interface PolicyLists {
  readonly policies: readonly Policy[];
  readonly operatorPolicies: readonly Policy[];
}

/** The policies that the server applies, by queue or exchange name: one of each list, or none. */
type Applied = ReadonlyMap<
  string,
  { readonly policy: string | undefined; readonly operatorPolicy: string | undefined }
>;

/** The policies that the server applies to existing resources. */
export interface AppliedPolicies {
  readonly queues: Applied;
  readonly exchanges: Applied;
}

/** What policies do to a topology. */
export interface PolicyFindings {
  /** They lose messages or break guarantees. */
  readonly problems: readonly MessagingError[];
  /** They change how it works. */
  readonly notices: readonly MessagingError[];
}

type PolicySettings = Pick<Settings, "consumerTimeoutMs" | "redactor">;

/** The effect of a policy key. */
interface Effect {
  readonly isProblem: boolean;
  readonly text: string;
}

/** RabbitMQ applies no policy to a quorum queue if it has a key for another kind of queue. */
const NOT_FOR_QUORUM =
  /^(?:max-priority|queue-mode|ha-.*|queue-master-locator|max-age|stream-max-segment-size-bytes|initial-cluster-size)$/;
const FOR_QUEUES = ["all", "queues", "quorum_queues"];
const FOR_EXCHANGES = ["all", "exchanges"];

/** The most policies of a list that are checked, from the highest priority down. */
const MAX_POLICIES = 1_000;
/** The most steps of all pattern tests together (some seconds), and of one (some milliseconds). */
const MAX_STEPS = 1_000_000_000;
const MAX_STEPS_OF_ONE = 1_000_000;
/** The longest time that pattern tests block the event loop. */
const TURN_MS = 10;
const MAX_FINDINGS = 100;
const MAX_NAMES = 5;

/** A parsed policy. */
interface ReadPolicy {
  readonly kind: "policy" | "operator policy";
  readonly policy: Policy;
  readonly priority: number;
  /** Undefined if the pattern is not evaluated here. */
  readonly pattern: NamePattern | undefined;
  readonly shownName: string;
  /** The keys that have an effect, with their redacted values. */
  readonly keys: readonly (readonly [key: string, shownValue: string])[];
  readonly isForQuorum: boolean;
}

interface Finding {
  readonly isProblem: boolean;
  readonly text: string;
  readonly names: string[];
}

/**
 * Finds what a virtual host's policies do to a topology plan. A pattern is evaluated here only if that is sure to end
 * soon. For the others it calls `readApplied` once; if that does not help, it returns a notice. A rejection of
 * `readApplied` becomes a notice.
 */
export async function evaluatePolicies(
  { queues, exchanges }: Pick<TopologyPlan, "queues" | "exchanges">,
  { policies, operatorPolicies }: PolicyLists,
  version: ServerVersion,
  settings: PolicySettings,
  readApplied: () => Promise<AppliedPolicies>,
): Promise<PolicyFindings> {
  const found = new Map<string, Finding>();
  const unknown = new Unknown();
  const { redactor } = settings;
  const lists = [readList("policy", policies, redactor), readList("operator policy", operatorPolicies, redactor)];
  const matching = new Matching(readApplied);
  const evaluate = async (
    name: string,
    resource: keyof AppliedPolicies,
    effect: (key: string, value: unknown) => Effect | undefined,
  ): Promise<void> => {
    for (const list of lists) {
      for (const { kind, policy, shownName, keys } of await matching.applying(list, name, resource, unknown)) {
        for (const [key, shownValue] of keys) {
          const value = policy.definition[key];
          const does = typeof value === "object" ? ODD : effect(key, value);
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
    await evaluate(queue.name, "queues", (key, value) => effectOnQueue(queue, key, value, version, settings));
  }
  for (const exchange of exchanges) {
    await evaluate(exchange.name, "exchanges", (key) => effectOnExchange(exchange, key));
  }
  const errors = (isProblem: boolean): MessagingError[] =>
    fewOf([...found.values()].filter((one) => one.isProblem === isProblem));
  const left = Math.max(0, policies.length - MAX_POLICIES) + Math.max(0, operatorPolicies.length - MAX_POLICIES);
  return {
    problems: errors(true),
    notices: [...errors(false), ...matching.failures, ...unknown.errors(), ...(left > 0 ? [tooMany(left)] : [])],
  };
}

function readList(kind: ReadPolicy["kind"], policies: readonly Policy[], redactor: Redactor): readonly ReadPolicy[] {
  return policies
    .map((policy) => ({ policy, priority: typeof policy.priority === "number" ? policy.priority : 0 }))
    .sort((a, b) => b.priority - a.priority)
    .slice(0, MAX_POLICIES)
    .map(({ policy, priority }) => ({
      kind,
      policy,
      priority,
      pattern: namePattern(policy.pattern),
      shownName: redactor.text(policy.name),
      keys: KEYS.filter((key) => Object.hasOwn(policy.definition, key)).map(
        (key) => [key, redactor.text(JSON.stringify(policy.definition[key]))] as const,
      ),
      isForQuorum: !Object.keys(policy.definition).some((key) => NOT_FOR_QUORUM.test(key)),
    }));
}

/** Finds the policies that apply to a name. */
class Matching {
  readonly failures: MessagingError[] = [];
  readonly #readApplied: () => Promise<AppliedPolicies>;
  #applied: Promise<AppliedPolicies | undefined> | undefined;
  #steps = 0;
  #turnSince = performance.now();

  constructor(readApplied: () => Promise<AppliedPolicies>) {
    this.#readApplied = readApplied;
  }

  /** All matching policies of equal priority count, because patterns do not show which of them RabbitMQ applies. */
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
      // The list is sorted, highest priority first.
      if (matched.some(({ priority }) => priority > one.priority)) break;
      const does = await this.#test(one, name);
      if (does === undefined) untried.push(one);
      else if (does) matched.push(one);
    }
    if (untried.length === 0) return matched;
    const applied = (await this.#appliedPolicies())?.[resource].get(name);
    if (applied !== undefined) {
      return list.filter(
        ({ kind, policy }) => policy.name === (kind === "policy" ? applied.policy : applied.operatorPolicy),
      );
    }
    for (const one of untried) unknown.add(one, name);
    return matched;
  }

  async #test({ pattern }: ReadPolicy, name: string): Promise<boolean | undefined> {
    const steps = pattern?.steps(name.length) ?? Number.POSITIVE_INFINITY;
    if (steps > MAX_STEPS_OF_ONE || this.#steps + steps > MAX_STEPS) return undefined;
    this.#steps += steps;
    if (performance.now() - this.#turnSince > TURN_MS) {
      await setImmediate();
      this.#turnSince = performance.now();
    }
    return pattern?.test(name);
  }

  #appliedPolicies(): Promise<AppliedPolicies | undefined> {
    this.#applied ??= this.#readApplied().catch((error: unknown) => {
      if (!isMessagingError(error)) throw error;
      this.failures.push(error);
      return undefined;
    });
    return this.#applied;
  }
}

/** Policies for which it is unknown whether they apply. */
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
      "their patterns are not evaluated here, because that may take too long or differ from RabbitMQ's result, and RabbitMQ does not report it";
    return [
      new MessagingError(
        "unsupported",
        `it is not known whether these policies apply to ${few([...this.#names])}: ${what}; ${why}; check them manually`,
      ),
    ];
  }
}

function tooMany(left: number): MessagingError {
  return new MessagingError(
    "unsupported",
    `RabbitMQ has ${left} more policies in this virtual host than are checked (${MAX_POLICIES} of each list, highest priorities first), so their effect on queues of anybroker is not known; remove unused policies, or check them manually`,
  );
}

/** Formats a few of the names. */
function few(names: readonly string[]): string {
  const shown = names.slice(0, MAX_NAMES).map((name) => `"${name}"`);
  return `${shown.join(", ")}${names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : ""}`;
}

function fewOf(findings: readonly Finding[]): MessagingError[] {
  const errors = findings.slice(0, MAX_FINDINGS).map(({ text, names }) => {
    const next = "exclude these names from its pattern, or create a policy of higher priority without this key";
    return new MessagingError("conflict", `${text} (on ${few(names)}); ${next}`);
  });
  const more = findings.length - errors.length;
  if (more <= 0) return errors;
  return [
    ...errors,
    new MessagingError("conflict", `policies of RabbitMQ have ${more} more such effects on resources of anybroker`),
  ];
}

function effectOnExchange({ name, alternate }: ExchangePlan, key: string): Effect | undefined {
  // An argument of the exchange overrides a policy.
  if (key !== "alternate-exchange" || alternate !== undefined) return undefined;
  return name.startsWith(OWN_PREFIX)
    ? {
        isProblem: true,
        text: "delayed messages go there and are lost for their destination, if their wait queue is missing",
      }
    : { isProblem: false, text: "events without a matching subscription go there, and are not refused as unroutable" };
}

type Rule = (
  queue: QueuePlan,
  value: unknown,
  version: ServerVersion,
  settings: Pick<Settings, "consumerTimeoutMs">,
) => Effect | undefined;

/** RabbitMQ refuses such values, so the answer may not be RabbitMQ's. */
const ODD: Effect = { isProblem: false, text: "RabbitMQ has no such value, so what it does is not known" };

const isDeadLetters = ({ role }: QueuePlan): boolean => role === "dead-letters" || role === "undelivered";
const problem = (text: string): Effect => ({ isProblem: true, text });
const notice = (text: string): Effect => ({ isProblem: false, text });

const SHORTER_LOG = "records of which messages crashed their consumers are kept for a shorter time";

const limited: Rule = (queue) => {
  if (queue.role === "work") return undefined;
  return queue.role === "wait"
    ? notice("delayed messages and retries beyond it are not accepted, and stay where they are")
    : notice("messages beyond it are not accepted, and stay unsettled where they are");
};

/** The effect of each key on a quorum queue as it is declared here. Other keys have no effect that matters. */
const RULES: Readonly<Record<string, Rule>> = {
  expires: () => problem("RabbitMQ deletes a queue that had no consumer for that long, and its messages are lost"),
  "message-ttl": (queue, value) => {
    const ttlMs = Number(value);
    if (isDeadLetters(queue)) return problem("RabbitMQ drops messages after that time, and they are lost");
    if (queue.role === "work") return notice("messages older than that are dead-lettered as expired");
    if (ttlMs >= Number(queue.arguments["x-message-ttl"])) return undefined;
    return queue.role === "wait" ? problem("delayed messages come too early") : notice(SHORTER_LOG);
  },
  "max-length": limited,
  "max-length-bytes": limited,
  overflow: (_queue, value) =>
    value === "reject-publish"
      ? undefined
      : problem("it overrides the queue's own: a full queue drops messages, and dead-lettering is at most once"),
  "dead-letter-routing-key": ({ role }) =>
    role === "wait" ? problem("delayed messages lose the route to their destination") : undefined,
  "delivery-limit": (queue, value, version) => {
    const limit = Number(value);
    if (limit < 0 || queue.role === "wait") return undefined;
    if (queue.role === "quarantine") return notice(SHORTER_LOG);
    if (!isDeadLetters(queue)) {
      const isLower = limit < Number(queue.arguments["x-delivery-limit"]);
      return isLower ? notice("RabbitMQ dead-letters a message after that many deliveries") : undefined;
    }
    return version.atLeast(4, 3)
      ? notice("a dead letter is dropped after its reader crashed that many times")
      : problem("a dead letter is dropped after it was read that many times, and is lost");
  },
  "consumer-timeout": ({ role }, value, version, { consumerTimeoutMs = DEFAULT_CONSUMER_TIMEOUT_MS }) => {
    if (version.atLeast(4, 3) || role === "wait" || role === "quarantine" || Number(value) >= consumerTimeoutMs)
      return undefined;
    return notice("RabbitMQ takes deliveries back after that; set it as consumerTimeoutMs of rabbitmq()");
  },
  "delayed-retry-type": ({ role, isOrdered }, value) => {
    if (value === "disabled") return undefined;
    if (role === "quarantine")
      return problem("a reader misses records that another one requeued, so crash counts are wrong");
    return isOrdered ? problem("requeued messages come back behind later ones, which breaks the order") : undefined;
  },
};

/** All keys that are checked. */
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

/** A server's regular expression for names, which can be evaluated here. */
export interface NamePattern {
  test(name: string): boolean;
  /** About the most steps for a name of this length. */
  steps(length: number): number;
}

/** The number of ways through a part of an expression: `factor * (length + 1) ** power`. */
interface Ways {
  readonly factor: number;
  readonly power: number;
}

const MAX_CHARACTERS = 1_000;
/** The JavaScript engine expands counted repetitions. */
const MAX_SIZE = 4_000;
const ONE: Ways = { factor: 1, power: 0 };
const UNBOUNDED: Ways = { factor: Number.POSITIVE_INFINITY, power: 0 };

/** Escapes with one meaning in Perl's expressions, which RabbitMQ uses, and in JavaScript's; not back references. */
const SHARED_ESCAPE = /^[dDwWsSbBtnrfv\W_]$/;
const GROUP = /\((?:\?(?:[:=!]|<[=!]))?/y;
const QUANTIFIER = /(?:[*+?]|\{(\d{1,6})(,(\d{1,6})?)?\})\??/y;

/**
 * Parses a pattern and bounds the steps of a test: a running expression cannot be stopped, and some that are fast on
 * the server never end here. Undefined if there is no bound, or if Perl and JavaScript may differ.
 */
export function namePattern(source: string): NamePattern | undefined {
  if (source.length > MAX_CHARACTERS) return undefined;
  try {
    const { ways, size, isAnchored } = new Reader(source).all();
    const expression = new RegExp(source);
    const power = ways.power + (isAnchored ? 0 : 1);
    return {
      test: (name) => expression.test(name),
      steps: (length) => size * ways.factor * (length + 1) ** power,
    };
  } catch {
    return undefined;
  }
}

interface Part {
  readonly ways: Ways;
  /** The length of the expression after counted repetitions are expanded. */
  readonly size: number;
  readonly isAnchored: boolean;
}

class Reader {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
  }

  all(): Part {
    const part = this.#choice();
    if (this.#at < this.#source.length) throw new SyntaxError("a group ends that did not begin");
    return part;
  }

  #choice(): Part {
    let { ways, size, isAnchored } = this.#sequence();
    while (this.#source[this.#at] === "|") {
      this.#at++;
      const next = this.#sequence();
      ways = sum(ways, next.ways);
      size += next.size;
      isAnchored &&= next.isAnchored;
    }
    return { ways, size, isAnchored };
  }

  #sequence(): Part {
    let ways = ONE;
    let size = 1;
    const isAnchored = this.#source[this.#at] === "^";
    while (this.#at < this.#source.length && this.#source[this.#at] !== "|" && this.#source[this.#at] !== ")") {
      const atom = this.#quantified(this.#atom());
      ways = product(ways, atom.ways);
      size += atom.size;
      if (size > MAX_SIZE) throw new RangeError("too large");
    }
    return { ways, size, isAnchored };
  }

  #atom(): Part {
    const character = this.#source[this.#at];
    if (character === "(") return this.#group();
    if (character === "[") this.#set();
    else if (character === "\\") this.#escape();
    // A brace without a count and a quantifier of nothing are read differently.
    else if (character === undefined || "*+?{".includes(character)) throw new SyntaxError("nothing to repeat");
    else this.#at++;
    return { ways: ONE, size: 1, isAnchored: false };
  }

  #group(): Part {
    const opening = this.#match(GROUP)?.[0];
    const inner = this.#source[this.#at] === "?" ? undefined : this.#choice();
    if (opening === undefined || inner === undefined || this.#source[this.#at] !== ")") {
      throw new SyntaxError("not a group that both know");
    }
    this.#at++;
    return inner;
  }

  #set(): void {
    this.#at++;
    if (this.#source[this.#at] === "^") this.#at++;
    if (this.#source[this.#at] === "]") throw new SyntaxError("an empty set in JavaScript, a bracket in Perl");
    while (this.#source[this.#at] !== "]") {
      const character = this.#source[this.#at];
      if (character === undefined || character === "[") throw new SyntaxError("perhaps a named set");
      if (character === "\\") this.#escape();
      else this.#at++;
    }
    this.#at++;
  }

  #escape(): void {
    if (!SHARED_ESCAPE.test(this.#source[this.#at + 1] ?? "A")) throw new SyntaxError("not an escape that both know");
    this.#at += 2;
  }

  #quantified(atom: Part): Part {
    const found = this.#match(QUANTIFIER);
    if (found === undefined) return atom;
    const [text, least = "0", comma, most = comma === undefined ? least : undefined] = found;
    const isCounted = text.startsWith("{");
    const to = isCounted
      ? Number(most ?? Number.POSITIVE_INFINITY)
      : text.startsWith("?")
        ? 1
        : Number.POSITIVE_INFINITY;
    const from = isCounted ? Number(least) : text.startsWith("+") ? 1 : 0;
    const copies = Math.max(1, Number.isFinite(to) ? to : from);
    return { ways: repeated(atom.ways, from, to), size: atom.size * copies, isAnchored: false };
  }

  #match(expression: RegExp): RegExpExecArray | undefined {
    expression.lastIndex = this.#at;
    const found = expression.exec(this.#source) ?? undefined;
    if (found !== undefined) this.#at += found[0].length;
    return found;
  }
}

/** The choice of a count multiplies with the choices of each repetition. Without a limit there is no bound. */
function repeated(ways: Ways, from: number, to: number): Ways {
  const hasChoices = ways.factor > 1 || ways.power > 0;
  if (!hasChoices)
    return Number.isFinite(to) ? { factor: Math.max(1, to - from + 1), power: 0 } : { factor: 1, power: 1 };
  if (!Number.isFinite(to)) return UNBOUNDED;
  const each = to === 0 ? ONE : { factor: ways.factor ** to, power: ways.power * to };
  return { factor: each.factor * Math.max(1, to - from + 1), power: each.power };
}

function product(one: Ways, other: Ways): Ways {
  return { factor: one.factor * other.factor, power: one.power + other.power };
}

function sum(one: Ways, other: Ways): Ways {
  return { factor: one.factor + other.factor, power: Math.max(one.power, other.power) };
}
