import type { Topology } from "../../core/adapter.ts";
import { type Connection, withChannel } from "./connection.ts";
import { type DeclaredResources, problemsOf, runAll, type Step } from "./declared-resources.ts";
import { operationError } from "./errors.ts";
import { readAppliedPolicies, readPolicies } from "./management.ts";
import { deadLettersOf, exchangeName, OWN_PREFIX, quarantineOf, queueName } from "./names.ts";
import type { Settings } from "./options.ts";
import { evaluatePolicies, type PolicyFindings } from "./policies.ts";
import { versionOf } from "./server-version.ts";
import { type BindingPlan, type QueuePlan, type TopologyPlan, topologyPlan } from "./topology-plan.ts";
import { declareExchange, declareQueue, type Established, staleBindings, verify } from "./verification.ts";

/** Deletes the queues and exchanges of a topology. Missing ones are no error to RabbitMQ. */
export async function removeAll(link: Connection, topology: Topology, requestTimeoutMs: number): Promise<void> {
  const work = [...topology.queues, ...topology.subscriptions].map(({ address }) => address);
  const queues = work.flatMap((of) => [queueName(of), deadLettersOf(of), quarantineOf(of)]);
  const exchanges = topology.topics.map(({ address }) => exchangeName(address.name));
  for (const name of queues) await remove(`queue ${name}`, (channel) => channel.deleteQueue(name));
  for (const name of exchanges) await remove(`exchange ${name}`, (channel) => channel.deleteExchange(name));

  async function remove(resource: string, use: Parameters<typeof withChannel<unknown>>[3]): Promise<void> {
    const what = `remove ${resource}`;
    try {
      await withChannel(link, requestTimeoutMs, what, use);
    } catch (error) {
      throw operationError(error, what, "delete it manually");
    }
  }
}

/** Creates or verifies a topology; adds what exists to `known`. Rejects if the broker does not answer. */
export async function establish(
  link: Connection,
  topology: Topology,
  settings: Settings,
  known: DeclaredResources,
): Promise<Established> {
  if (topology.mode === "none") return { problems: [], unverified: [] };
  const version = versionOf(link);
  const plan = topologyPlan(topology, version, settings);
  if (topology.mode === "verify") {
    const { problems, unverified } = await verify(link, plan, settings, known);
    return { problems: [...plan.problems, ...problems], unverified };
  }
  for (const phase of creation(plan)) {
    const refused = await runAll(link, settings.requestTimeoutMs, phase, known);
    // Bindings to a resource that could not be created would only repeat its problem.
    if (refused.length > 0) return { problems: [...plan.problems, ...problemsOf(refused)], unverified: [] };
  }
  return { problems: plan.problems, unverified: await staleBindings(plan, settings) };
}

/** Finds what policies do to a topology; undefined without a management API. Rejects if that does not answer. */
export async function findPolicies(
  link: Connection,
  topology: Topology,
  settings: Settings,
): Promise<PolicyFindings | undefined> {
  const { managementUrl } = settings;
  if (managementUrl === undefined) return undefined;
  const version = versionOf(link);
  const lists = await readPolicies(managementUrl, settings);
  const readApplied = () => readAppliedPolicies(managementUrl, settings);
  return evaluatePolicies(topologyPlan(topology, version, settings), lists, version, settings, readApplied);
}

/** Binds the subscriptions of a topology to their topics; existing bindings stay as they are. */
export async function bindSubscriptions(
  link: Connection,
  topology: Topology,
  settings: Settings,
  known: DeclaredResources,
): Promise<void> {
  const version = versionOf(link);
  const { bindings } = topologyPlan(topology, version, settings);
  const ofTopics = bindings.filter(({ from }) => !from.startsWith(OWN_PREFIX));
  await runAll(link, settings.requestTimeoutMs, ofTopics.map(binding), known);
}

/**
 * Whether a queue of a topology exists as it is declared. It declares the queue once more, because another process may
 * have made it anew with other arguments. Rejects if the broker does not answer.
 */
export async function isAsDeclared(
  link: Connection,
  name: string,
  topology: Topology,
  settings: Settings,
  known: DeclaredResources,
): Promise<boolean> {
  const queue = topologyPlan(topology, versionOf(link), settings).queues.find((one) => one.name === name);
  if (queue === undefined) return false;
  return (await runAll(link, settings.requestTimeoutMs, [declaration(queue)], known)).length === 0;
}

function declaration(queue: QueuePlan): Step {
  return {
    what: `declare queue "${queue.name}"`,
    resource: `queue ${queue.name}`,
    makes: true,
    run: (channel) => declareQueue(channel, queue),
  };
}

function creation({ exchanges, queues, bindings }: TopologyPlan): Step[][] {
  const makeExchanges = exchanges.map(
    (exchange): Step => ({
      what: `declare exchange "${exchange.name}"`,
      resource: `exchange ${exchange.name}`,
      makes: true,
      run: (channel) => declareExchange(channel, exchange),
    }),
  );
  return [[...makeExchanges, ...queues.map(declaration)], bindings.map(binding)];
}

function binding({ from, to, toKind, pattern }: BindingPlan): Step {
  return {
    what: `bind ${toKind} "${to}" to exchange "${from}"`,
    run: (channel) =>
      toKind === "queue" ? channel.bindQueue(to, from, pattern) : channel.bindExchange(to, from, pattern),
  };
}
