import type { Topology } from "../../../core/adapter.ts";
import { isMessagingError, type MessagingError } from "../../../core/errors.ts";
import type { Clients } from "../clients.ts";
import type { Settings } from "../options.ts";
import type { Registry } from "../registry.ts";
import { Queues } from "./queues.ts";
import { Subscriptions } from "./subscriptions.ts";
import { Topics } from "./topics.ts";
import { WorkQueues } from "./work-queues.ts";

/** Makes queues, topics and subscriptions, or looks whether they stand. */
export class TopologyKeeper {
  readonly #work: WorkQueues;
  readonly #topics: Topics;
  readonly #subscriptions: Subscriptions;

  constructor(clients: Clients, registry: Registry, settings: Settings) {
    const queues = new Queues(clients, registry, settings);
    this.#work = new WorkQueues(queues, settings.maxReceives);
    this.#topics = new Topics(clients, registry, settings);
    this.#subscriptions = new Subscriptions(clients, registry, queues, this.#work);
  }

  /** Every problem found. Rejects with `unreachable` if it could not look. */
  async declare({ mode, queues, topics, subscriptions }: Topology): Promise<readonly MessagingError[]> {
    if (mode === "none") return [];
    const create = mode === "create";
    const problems: MessagingError[] = [];
    const collect = async (what: Promise<unknown>): Promise<void> => {
      try {
        await what;
      } catch (error) {
        if (!isMessagingError(error) || error.code === "unreachable") throw error;
        problems.push(error);
      }
    };
    await Promise.all([
      ...queues.map(({ address, ordered }) => collect(this.#work.declare(address, ordered, create))),
      ...topics.map(({ address, ordered }) => collect(this.#topics.declare(address, ordered, create))),
    ]);
    await Promise.all(subscriptions.map((subscription) => collect(this.#subscriptions.declare(subscription, create))));
    return problems;
  }
}
