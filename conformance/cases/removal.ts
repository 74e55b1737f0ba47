import assert from "node:assert/strict";
import type { Adapter, SubscriptionDeclaration, Topology } from "../../core/adapter.ts";
import {
  type Address,
  addressName,
  describeAddress,
  type QueueAddress,
  type TopicAddress,
} from "../../core/address.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext } from "../context.ts";
import { DirectAdapter, outgoing } from "../direct-adapter.ts";
import { existing, nothingNewExists } from "../existing.ts";
import { failureOf } from "../refusals.ts";

/** A queue, and a topic with a subscription if there are topics. */
interface Resources {
  readonly topology: Topology;
  /** The addresses that store messages. */
  readonly places: readonly Address[];
  /** The addresses for sending. */
  readonly targets: readonly (QueueAddress | TopicAddress)[];
}

async function removal(context: CaseContext): Promise<void> {
  if (context.harness.adapter().remove === undefined) return context.refused("the adapter has no `remove`");
  const kept = resources(context, "kept");
  const doomed = resources(context, "doomed");
  const others = await opened(context);
  await others.declare(kept.topology);
  await fill(context, others, kept);
  const before = await existing(context);
  const maker = await opened(context);
  await maker.declare(doomed.topology);
  await fill(context, maker, doomed);
  await maker.close();

  // Another adapter, which has declared nothing.
  const remover = await opened(context);
  await remove(remover.adapter, doomed.topology);
  for (const place of doomed.places) await gone(context, remover, place);
  for (const target of doomed.targets) await refused(context, remover, target);
  await nothingNewExists(context, before);
  await remove(remover.adapter, doomed.topology);
  await remove(remover.adapter, resources(context, "never").topology);
  for (const place of kept.places) await holds(context, others, place, 1);

  const again = await opened(context);
  await again.declare(doomed.topology);
  for (const place of doomed.places) await holds(context, again, place, 0);
  await fill(context, again, doomed);
  for (const place of doomed.places) await holds(context, again, place, 1);
  if (context.harness.withoutTopics !== undefined) context.note(`only queues: ${context.harness.withoutTopics}`);
}

function resources(context: CaseContext, name: string): Resources {
  const queue: QueueAddress = { kind: "queue", name: context.name(`${name}-orders`) };
  const topic: TopicAddress = { kind: "topic", name: context.name(`${name}-placed`) };
  const subscription: SubscriptionDeclaration = {
    address: { kind: "subscription", topic: topic.name, name: "billing" },
    ordered: false,
    from: "now",
  };
  const withTopics = context.harness.withoutTopics === undefined;
  const sources = withTopics ? [queue, subscription.address] : [queue];
  return {
    topology: {
      mode: "create",
      queues: [{ address: queue, ordered: false, priorities: 1 }],
      topics: withTopics ? [{ address: topic, ordered: false }] : [],
      subscriptions: withTopics ? [subscription] : [],
    },
    places: sources.flatMap((of): Address[] => [of, { kind: "dead-letters", of }]),
    targets: withTopics ? [queue, topic] : [queue],
  };
}

async function opened(context: CaseContext): Promise<DirectAdapter> {
  const direct = await DirectAdapter.open(context.harness.adapter());
  context.cleanUp(() => direct.close());
  return direct;
}

/** Sends one message to each address. */
async function fill(context: CaseContext, direct: DirectAdapter, { places, targets }: Resources): Promise<void> {
  for (const target of targets) await direct.confirmed(target, [outgoing({ id: context.id() })]);
  for (const place of places) {
    if (place.kind === "dead-letters") await direct.confirmed(place, [outgoing({ id: context.id() })]);
  }
  for (const place of places) await holds(context, direct, place, 1);
}

async function remove(adapter: Adapter, topology: Topology): Promise<void> {
  if (adapter.remove === undefined) throw new Error("the adapter has no remove");
  await adapter.remove(topology);
}

/** Waits, because some brokers show a removed resource for a moment. */
async function gone(context: CaseContext, direct: DirectAdapter, place: Address): Promise<void> {
  let last = "";
  const missing = async (): Promise<boolean> => {
    const failure = await failureOf(direct.adapter.depth(place));
    last = failure === undefined ? "it exists" : failure.message;
    return failure?.code === "not-found";
  };
  const where = describeAddress(place);
  try {
    await context.until(`${where} not to exist`, missing);
  } catch (cause) {
    throw new Error(`${where} was removed, and still exists: ${last}`, { cause });
  }
}

async function refused(
  context: CaseContext,
  direct: DirectAdapter,
  target: QueueAddress | TopicAddress,
): Promise<void> {
  let last = "";
  await context.until(`sending to ${addressName(target)} to be refused`, async () => {
    const [result] = await direct.send(target, [outgoing({ id: context.id() })]);
    last = result?.status === "rejected" ? result.error.code : String(result?.status);
    return last !== "confirmed";
  });
  assert.equal(last, "not-found", `sending to the removed ${describeAddress(target)}`);
}

async function holds(context: CaseContext, direct: DirectAdapter, place: Address, count: number): Promise<void> {
  let last = "";
  const hasCount = async (): Promise<boolean> => {
    const { ready } = await direct.adapter.depth(place);
    last = `${ready} ready`;
    return ready === count;
  };
  try {
    await context.until(`${count} messages at ${describeAddress(place)}`, hasCount);
  } catch (cause) {
    throw new Error(`${describeAddress(place)} does not hold ${count}: ${last}`, { cause });
  }
}

export const removalCase: ConformanceCase = {
  number: "38",
  title: "removal deletes only what was declared, with its messages; it can be declared again",
  alone: true,
  run: removal,
};
