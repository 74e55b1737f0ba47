import type { Admin } from "kafkajs";
import type { Topology } from "../../core/adapter.ts";
import { clientError } from "./kafkajs/errors.ts";
import { groupName } from "./names.ts";
import type { Settings } from "./options.ts";
import { planOf } from "./topology/plan.ts";

/** Deletes the existing topics and consumer groups of a topology. */
export async function removeAll(admin: Admin, topology: Topology, settings: Settings): Promise<void> {
  const topics = planOf(topology, settings).topics.map(({ name }) => name);
  const work = [...topology.queues, ...topology.subscriptions].map(({ address }) => address);
  const sources = work.flatMap((of) => [of, { kind: "dead-letters", of } as const]);
  // The groups of delay forwarders have the names of their topics.
  const groups = new Set([...topics, ...sources.map((source) => groupName(source))]);
  try {
    await admin.connect();
    const existing = new Set(await admin.listTopics());
    const stale = topics.filter((topic) => existing.has(topic));
    if (stale.length > 0) await admin.deleteTopics({ topics: stale });
    const known = (await admin.listGroups()).groups.map(({ groupId }) => groupId);
    const left = known.filter((group) => groups.has(group));
    if (left.length > 0) await admin.deleteGroups(left);
  } catch (cause) {
    const what = `${topics.length} topics and their groups could not all be removed`;
    throw clientError("refused", `${what}, and the rest is to be removed by hand`, cause);
  } finally {
    await admin.disconnect();
  }
}
