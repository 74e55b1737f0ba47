import type { Adapter } from "../../core/adapter.ts";
import { type Address, addressName, describeAddress, type WorkAddress, workAddress } from "../../core/address.ts";
import { checkName } from "../../core/checks.ts";
import { type Destination, type Queue, routingMatches, type Subscription, type Topic } from "../../core/destination.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { BrokerOptions } from "../../core/options.ts";
import { addressOf, isOrdered } from "./bridge-ends.ts";
import { carried } from "./carried.ts";
import type { MigrationPlan } from "./contract.ts";
import type { Side } from "./state.ts";
import type { MigrationStore } from "./store.ts";

/** The checked destinations and adapters of a migration. */
export class Plan {
  readonly name: string;
  readonly state: MigrationStore;
  readonly adapters: Readonly<Record<Side, Adapter>>;
  readonly destinations: readonly Destination[];
  /** The destinations for the state: sorted texts, each with whether it is ordered. */
  readonly described: readonly string[];
  readonly #subscriptions = new Map<string, Subscription[]>();

  constructor(where: string, { from, to, destinations, state, name = "migration" }: MigrationPlan) {
    checkName("migration", name);
    for (const [option, adapter] of Object.entries({ from, to })) {
      if (typeof adapter?.physicalName === "function") continue;
      throw new MessagingError("invalid", `${where} { ${option} } takes an adapter, such as rabbitmq({ url })`);
    }
    if (from === to) throw new MessagingError("invalid", `${where} { from, to } takes two different adapters`);
    if (typeof state?.beat !== "function") {
      throw new MessagingError("invalid", `${where} { state } takes a store, such as memoryMigrationStore()`);
    }
    if (!Array.isArray(destinations) || destinations.length === 0) {
      throw new MessagingError(
        "invalid",
        `${where} { destinations } takes a list of the queues, topics and subscriptions that move`,
      );
    }
    this.name = name;
    this.state = state;
    this.adapters = { from, to };
    this.destinations = destinations;
    this.described = destinations.map(describe).sort();
    for (const each of this.destinations) {
      if (each.kind !== "subscription") continue;
      const ofTopic = this.#subscriptions.get(each.topic.name) ?? [];
      ofTopic.push(each);
      this.#subscriptions.set(each.topic.name, ofTopic);
    }
  }

  /** Throws `invalid` for a destination that does not move. */
  require(where: string, kind: "queue" | "topic", name: string): void {
    const known = this.destinations.some((each) => {
      const address = addressOf(each);
      if (kind === "queue") return address.kind === "queue" && address.name === name;
      return (
        (address.kind === "topic" && address.name === name) ||
        (address.kind === "subscription" && address.topic === name)
      );
    });
    if (!known) throw notListed(where, `${kind} "${name}"`);
  }

  /** Throws `invalid` for a subscription that does not move. */
  requireSubscription(where: string, topic: string, name: string): void {
    if (this.#subscriptions.get(topic)?.some((each) => each.name === name)) return;
    throw notListed(where, `subscription "${name}" of topic "${topic}"`);
  }

  /** The queues and subscriptions that receive a message. Each of them handles it. */
  receivers(
    to: { readonly kind: "queue" | "topic"; readonly name: string },
    routingKey: string | undefined,
  ): readonly string[] {
    if (to.kind === "queue") return [to.name];
    const receivers = (this.#subscriptions.get(to.name) ?? []).filter(({ options: { filter = "#" } }) =>
      routingMatches(filter, routingKey),
    );
    return receivers.map(({ name }) => addressName(workAddress(to.name, name)));
  }

  /** The queues and subscriptions. */
  works(): readonly { readonly destination: Destination; readonly address: WorkAddress; readonly ordered: boolean }[] {
    return this.destinations.flatMap((destination) => {
      const address = addressOf(destination);
      return address.kind === "topic" ? [] : [{ destination, address, ordered: isOrdered(destination) }];
    });
  }

  /** Throws `invalid` with every name that the new broker does not allow. */
  refuseNames(): void {
    const topics = this.destinations.map(addressOf).filter(({ kind }) => kind === "topic");
    const works = this.works().flatMap(({ address }): Address[] => [
      address,
      { kind: "dead-letters", of: address },
      { kind: "quarantine", of: address },
    ]);
    const problems = [...topics, ...works].flatMap((address) => {
      try {
        this.adapters.to.physicalName(address);
        return [];
      } catch (error) {
        if (isMessagingError(error)) return [error];
        throw error;
      }
    });
    const [first] = problems;
    if (first === undefined) return;
    const what = `${this.adapters.to.name} does not allow ${problems.length} names, such as: ${first.message}`;
    throw new MessagingError("invalid", `${what}. Nothing was changed`, { problems });
  }

  /** The options of a side's broker object. */
  optionsOf(side: Side, accepted: readonly string[], options: Omit<BrokerOptions, "destinations">): BrokerOptions {
    const destinations = this.destinations.map((each): Destination => {
      if (each.kind !== "subscription") return carried(each, side, accepted) as Queue<never, unknown>;
      const topic = carried(each.topic, side, accepted) as Topic<never, unknown>;
      return { ...each, topic, options: subscriptionOptions(each, side, accepted) };
    });
    return { ...options, destinations };
  }
}

/** The options without the accepted losses. */
export function subscriptionOptions(
  { options }: Pick<Subscription, "options">,
  side: Side,
  accepted: readonly string[],
): Subscription["options"] {
  if (side === "from" || !accepted.includes("rewind")) return options;
  const { from: _, ...rest } = options;
  return rest;
}

function describe(destination: Destination): string {
  return `${isOrdered(destination) ? "ordered " : ""}${describeAddress(addressOf(destination))}`;
}

function notListed(where: string, what: string): MessagingError {
  return new MessagingError(
    "invalid",
    `${where}: ${what} is not among the destinations of the migration; add it in every process, or it stays on the old broker`,
  );
}
