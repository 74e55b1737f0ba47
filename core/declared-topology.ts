import type { Topology } from "./adapter.ts";
import { addressName } from "./address.ts";

/** What an adapter has declared since it was opened, united, so that it is declared again once after a loss. */
export class DeclaredTopology {
  readonly #queues = new Map<string, Topology["queues"][number]>();
  readonly #topics = new Map<string, Topology["topics"][number]>();
  readonly #subscriptions = new Map<string, Topology["subscriptions"][number]>();

  get isEmpty(): boolean {
    return this.#queues.size + this.#topics.size + this.#subscriptions.size === 0;
  }

  add({ queues, topics, subscriptions }: Topology): void {
    for (const queue of queues) this.#queues.set(addressName(queue.address), queue);
    for (const topic of topics) this.#topics.set(addressName(topic.address), topic);
    for (const subscription of subscriptions) {
      this.#subscriptions.set(addressName(subscription.address), subscription);
    }
  }

  get topology(): Topology {
    return {
      mode: "create",
      queues: [...this.#queues.values()],
      topics: [...this.#topics.values()],
      subscriptions: [...this.#subscriptions.values()],
    };
  }
}
