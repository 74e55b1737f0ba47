import { internalsOf } from "../../core/broker-internals.ts";
import { addressName, type Broker, type Clock, MessagingError } from "../../core/index.ts";
import { bridge } from "./bridge.ts";
import type { Bridge, BridgeContent } from "./bridge-contract.ts";
import type { Changes, Patience } from "./changes.ts";
import { Emptiness, type Reading } from "./emptiness.ts";
import { Hands } from "./hands.ts";
import type { Plan } from "./plan.ts";
import type { Side } from "./state.ts";

const TELL_EVERY_MS = 500;

/** What is moved, and how. */
export interface LeftoversParts {
  readonly plan: Plan;
  readonly changes: Changes;
  readonly clock: Clock;
  readonly emptyForMs: number;
  readonly rate: number | undefined;
  readonly patience: Patience;
}

/** What stands on a broker that nobody publishes to any more: moved, or waited for. */
export class Leftovers {
  readonly #parts: LeftoversParts;

  constructor(parts: LeftoversParts) {
    this.#parts = parts;
  }

  /**
   * Moves what nobody handles: the dead letters of everything, and the messages of what is not ordered. What is
   * ordered is left to its consumers, since behind what was published to the other broker it would come too late.
   */
  async move(from: Broker, to: Broker): Promise<void> {
    for (const { destination, ordered } of this.#parts.plan.works()) {
      const contents: readonly BridgeContent[] = ordered ? ["dead-letters"] : ["messages", "dead-letters"];
      for (const content of contents) {
        const { rate, emptyForMs, patience } = this.#parts;
        const moving = bridge(from, to, {
          source: destination,
          content,
          emptyForMs,
          ...(rate === undefined ? {} : { rate }),
          onProgress: (status) => patience.tell({ waitingFor: "bridge", bridge: status }),
        });
        await this.#run(moving);
      }
    }
  }

  /** Until it is at its end, or patience is. */
  async #run(moving: Bridge): Promise<void> {
    const { patience, clock } = this.#parts;
    const { source } = moving.status();
    patience.signal?.throwIfAborted();
    const stop = (): void => void moving.stop();
    const timer = clock.schedule(stop, Math.max(patience.until - clock.monotonic(), 0));
    patience.signal?.addEventListener("abort", stop, { once: true });
    const { end, left, leftMessages, error } = await moving.run().finally(() => {
      clock.cancel(timer);
      patience.signal?.removeEventListener("abort", stop);
    });
    patience.signal?.throwIfAborted();
    if (end === "drained" && left === 0) return;
    if (end === "stopped")
      throw new MessagingError("timeout", `patience ended while ${source} was moved; go on by calling again`);
    const [first] = leftMessages;
    const cause = error ?? first?.error;
    const what =
      error === undefined
        ? `${left} messages of ${source} are refused by the other broker, as ${first?.id} is`
        : `${source} cannot be moved`;
    throw new MessagingError(cause?.code ?? "rejected", `${what}; see the cause. They stay where they are`, { cause });
  }

  /**
   * Waits until nothing stands at a side: what its broker counts, and what the instances say they hold, for brokers that do
   * not count what is unsettled.
   */
  async empty(side: Side, broker: Broker): Promise<void> {
    const { plan, changes, clock, emptyForMs, patience } = this.#parts;
    const internals = internalsOf(broker, "migration");
    const open = plan
      .works()
      .map(({ address }) => new Look(new Emptiness(internals, address, emptyForMs), addressName(address)));
    const hands = new Hands(side);
    let told = Number.NEGATIVE_INFINITY;
    for (;;) {
      let waiting: Look | undefined;
      let whole = true;
      for (const look of open) {
        look.reading = await look.emptiness.read();
        whole &&= look.reading.whole;
        if (!look.reading.empty) waiting ??= look;
      }
      const held: number | undefined =
        waiting === undefined && !whole ? hands.look((await changes.read()).stored.instances) : 0;
      if (waiting === undefined && held === 0) return;
      if (waiting !== undefined || (held ?? 0) > 0) hands.disturbed();
      const source = waiting?.name ?? plan.adapters[side].name;
      const remaining = waiting?.reading?.remaining ?? held ?? 0;
      if (clock.monotonic() - told >= TELL_EVERY_MS) {
        told = clock.monotonic();
        patience.tell({ waitingFor: "empty", source, remaining });
      }
      const every = Math.max(...open.map(({ emptiness }) => emptiness.everyMs));
      const what = `waiting until ${source} of ${plan.adapters[side].name} is empty (${remaining} left)`;
      await changes.wait(patience, what, every);
    }
  }
}

class Look {
  readonly emptiness: Emptiness;
  readonly name: string;
  reading: Reading | undefined = undefined;

  constructor(emptiness: Emptiness, name: string) {
    this.emptiness = emptiness;
    this.name = name;
  }
}
