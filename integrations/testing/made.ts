import { type Adapter, type Address, describeAddress, type Topology } from "../../core/index.ts";

/** Everything that was made on the broker, over all adapters of a kit. */
export class Made {
  readonly #queues = new Map<string, Topology["queues"][number]>();
  readonly #topics = new Map<string, Topology["topics"][number]>();
  readonly #subscriptions = new Map<string, Topology["subscriptions"][number]>();

  add({ mode, queues, topics, subscriptions }: Topology): void {
    if (mode !== "create") return;
    keep(this.#queues, queues);
    keep(this.#topics, topics);
    keep(this.#subscriptions, subscriptions);
  }

  /** Removes it all with an adapter that is closed, if it can. */
  async remove(adapter: Adapter): Promise<void> {
    if (adapter.remove === undefined || this.#queues.size + this.#topics.size + this.#subscriptions.size === 0) return;
    const nothing = (): void => {};
    await adapter.open({ up: nothing, down: nothing, blocked: nothing, unblocked: nothing, notice: nothing });
    try {
      await adapter.remove({
        mode: "none",
        queues: [...this.#queues.values()],
        topics: [...this.#topics.values()],
        subscriptions: [...this.#subscriptions.values()],
      });
    } finally {
      await adapter.close();
    }
  }
}

function keep<Declaration extends { readonly address: Address }>(
  known: Map<string, Declaration>,
  declarations: readonly Declaration[],
): void {
  for (const declaration of declarations) known.set(describeAddress(declaration.address), declaration);
}
