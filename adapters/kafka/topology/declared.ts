import type { Topology } from "../../../core/adapter.ts";
import type { Address } from "../../../core/address.ts";
import { topicName } from "../names.ts";

type Parts = Pick<Topology, "queues" | "topics" | "subscriptions">;
type Declaration = Parts[keyof Parts][number];

/** What was declared, each queue, topic and subscription once, as it was last. */
export class Declared implements Parts {
  readonly #queues = new Map<string, Topology["queues"][number]>();
  readonly #topics = new Map<string, Topology["topics"][number]>();
  readonly #subscriptions = new Map<string, Topology["subscriptions"][number]>();

  get queues(): Topology["queues"] {
    return [...this.#queues.values()];
  }

  get topics(): Topology["topics"] {
    return [...this.#topics.values()];
  }

  get subscriptions(): Topology["subscriptions"] {
    return [...this.#subscriptions.values()];
  }

  add({ queues, topics, subscriptions }: Parts): void {
    for (const queue of queues) this.#queues.set(keyOf(queue), queue);
    for (const topic of topics) this.#topics.set(keyOf(topic), topic);
    for (const subscription of subscriptions) this.#subscriptions.set(keyOf(subscription), subscription);
  }

  /** What of these is not here, or is declared in another way. */
  newsIn({ queues, topics, subscriptions }: Parts): Parts {
    return {
      queues: queues.filter((queue) => !isSame(queue, this.#queues.get(keyOf(queue)))),
      topics: topics.filter((topic) => !isSame(topic, this.#topics.get(keyOf(topic)))),
      subscriptions: subscriptions.filter((one) => !isSame(one, this.#subscriptions.get(keyOf(one)))),
    };
  }
}

function keyOf({ address }: { readonly address: Address }): string {
  return topicName(address);
}

function isSame(one: Declaration, other: Declaration | undefined): boolean {
  return other !== undefined && JSON.stringify(one) === JSON.stringify(other);
}
