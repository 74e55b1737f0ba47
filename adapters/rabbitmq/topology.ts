import type { Topology } from "../../core/adapter.ts";
import type { MessagingError } from "../../core/errors.ts";
import { type BindingBlueprint, type Blueprint, blueprint } from "./blueprint.ts";
import type { KnownThings } from "./known.ts";
import type { Link } from "./link.ts";
import { readAppliedPolicies, readPolicies } from "./management.ts";
import { OWN_PREFIX } from "./names.ts";
import type { Settings } from "./options.ts";
import { judgePolicies, type PolicyFindings } from "./policies.ts";
import { serverVersion } from "./server-version.ts";
import { problemsOf, runAll, type Step } from "./steps.ts";
import { declareExchange, declareQueue, leftBindings, verify } from "./verification.ts";

/** What came of making or verifying a topology. */
export interface Established {
  readonly problems: readonly MessagingError[];
  /** What could not be compared with what is declared, and what would let it be. */
  readonly unverified: readonly MessagingError[];
}

/**
 * Makes or verifies everything. Rejects if the connection went away meanwhile or did not answer. What stands afterwards is
 * `known`.
 */
export async function establish(
  link: Link,
  topology: Topology,
  settings: Settings,
  known: KnownThings,
): Promise<Established> {
  if (topology.mode === "none") return { problems: [], unverified: [] };
  const version = serverVersion(link.model.connection.serverProperties.version);
  const plan = blueprint(topology, version, settings);
  if (topology.mode === "verify") {
    const { problems, unverified } = await verify(link, plan, settings, known);
    return { problems: [...plan.problems, ...problems], unverified };
  }
  for (const phase of creation(plan)) {
    const refused = await runAll(link, settings.requestTimeoutMs, phase, known);
    // What is bound to something that could not be made would only repeat its problem.
    if (refused.length > 0) return { problems: [...plan.problems, ...problemsOf(refused)], unverified: [] };
  }
  return { problems: plan.problems, unverified: await leftBindings(plan, settings) };
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
  const { managementUrl } = settings;
  if (managementUrl === undefined) return undefined;
  const version = serverVersion(link.model.connection.serverProperties.version);
  const lists = await readPolicies(managementUrl, settings);
  const askApplied = () => readAppliedPolicies(managementUrl, settings);
  return judgePolicies(blueprint(topology, version, settings), lists, version, settings, askApplied);
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
    (exchange): Step => ({
      what: `declare exchange "${exchange.name}"`,
      thing: `exchange ${exchange.name}`,
      makes: true,
      run: (channel) => declareExchange(channel, exchange),
    }),
  );
  const makeQueues = queues.map(
    (queue): Step => ({
      what: `declare queue "${queue.name}"`,
      thing: `queue ${queue.name}`,
      makes: true,
      run: (channel) => declareQueue(channel, queue),
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
