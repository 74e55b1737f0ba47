import { internalsOf } from "../../core/broker-internals.ts";
import { addressName, type Broker, type Clock, MessagingError } from "../../core/index.ts";
import { bridge } from "./bridge.ts";
import type { BridgeContent } from "./bridge-contract.ts";
import type { Changes, Patience } from "./changes.ts";
import { Emptiness } from "./emptiness.ts";
import { reportOf } from "./instance-report.ts";
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
   * Moves what nobody handles: the dead letters and suspects of everything, and the messages of what is not ordered. What is
   * ordered is left to its consumers, since behind what was published to the other broker it would come too late.
   */
  async move(from: Broker, to: Broker): Promise<void> {
    for (const { destination, ordered } of this.#parts.plan.works()) {
      const contents: readonly BridgeContent[] = ordered ? ["dead-letters"] : ["messages", "suspects", "dead-letters"];
      for (const content of contents) {
        const { rate, emptyForMs, patience } = this.#parts;
        const moving = bridge(from, to, {
          source: destination,
          content,
          emptyForMs,
          ...(rate === undefined ? {} : { rate }),
          onProgress: (status) => patience.tell({ waitingFor: "bridge", bridge: status }),
        });
        await this.#run(moving.run({ signal: this.#deadline() }), moving.status().source);
      }
    }
  }

  #deadline(): AbortSignal {
    const { signal, until } = this.#parts.patience;
    const { clock } = this.#parts;
    const over = new AbortController();
    const timer = clock.schedule(() => over.abort(), Math.max(until - clock.monotonic(), 0));
    signal?.addEventListener("abort", () => {
      clock.cancel(timer);
      over.abort();
    });
    return over.signal;
  }

  async #run(run: ReturnType<ReturnType<typeof bridge>["run"]>, source: string): Promise<void> {
    const { end, left, leftMessages, error } = await run;
    this.#parts.patience.signal?.throwIfAborted();
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
    const open = plan.works().flatMap(({ address, ordered }) => {
      const suspects = ordered
        ? []
        : [
            new Look(
              new Emptiness(internals, { kind: "suspects", of: address }, emptyForMs),
              `${addressName(address)}.suspects`,
            ),
          ];
      return [new Look(new Emptiness(internals, address, emptyForMs), addressName(address)), ...suspects];
    });
    let told = Number.NEGATIVE_INFINITY;
    for (;;) {
      let waiting: Look | undefined;
      for (const look of open) {
        look.reading = await look.emptiness.read();
        if (!look.reading.empty) waiting ??= look;
      }
      const held = waiting === undefined ? await this.#held(side) : 0;
      if (waiting === undefined && held === 0) return;
      if (held > 0) for (const { emptiness } of open) emptiness.disturbed();
      const source = waiting?.name ?? plan.adapters[side].name;
      const remaining = waiting?.reading?.remaining ?? held;
      if (clock.monotonic() - told >= TELL_EVERY_MS) {
        told = clock.monotonic();
        patience.tell({ waitingFor: "empty", source, remaining });
      }
      const every = Math.max(...open.map(({ emptiness }) => emptiness.everyMs));
      await changes.wait(
        patience,
        `waiting until ${source} of ${plan.adapters[side].name} is empty (${remaining} left)`,
        every,
      );
    }
  }

  /** How many unsettled deliveries the instances say they have of a side. */
  async #held(side: Side): Promise<number> {
    const { stored } = await this.#parts.changes.read();
    return stored.instances.reduce((sum, { report }) => sum + (reportOf(report).held?.[side] ?? 0), 0);
  }
}

class Look {
  readonly emptiness: Emptiness;
  readonly name: string;
  reading: { readonly remaining: number; readonly empty: boolean } | undefined = undefined;

  constructor(emptiness: Emptiness, name: string) {
    this.emptiness = emptiness;
    this.name = name;
  }
}
