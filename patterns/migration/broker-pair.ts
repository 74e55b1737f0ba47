import type { Broker } from "../../core/broker.ts";
import { createBroker } from "../../core/create-broker.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerOptions, StartOptions } from "../../core/options.ts";
import type { Plan } from "./plan.ts";
import type { Side } from "./state.ts";

/** One broker object with its state. */
interface HeldBroker {
  readonly broker: Broker;
  /** The last start or stop. They run one after another. */
  turn: Promise<void>;
  started: boolean;
}

/** The two broker objects, made at first use: the accepted differences are known only then. */
export class BrokerPair {
  readonly #plan: Plan;
  readonly #options: Omit<BrokerOptions, "destinations">;
  readonly #made: (side: Side, broker: Broker) => void;
  readonly #held = new Map<Side, HeldBroker>();

  /** `made` is called with each new broker object before it is started. */
  constructor(
    plan: Plan,
    options: Omit<BrokerOptions, "destinations">,
    made: (side: Side, broker: Broker) => void = () => {},
  ) {
    this.#plan = plan;
    this.#options = options;
    this.#made = made;
  }

  /** Starts a side. Does nothing if it is started. Rejects as `Broker.start` does. */
  start(side: Side, accepted: readonly string[], options: StartOptions = {}): Promise<void> {
    const held = this.#of(side, accepted);
    return this.#inTurn(held, async () => {
      await held.broker.start(options);
      held.started = true;
    });
  }

  /** Cancels starts in progress. */
  cancelStart(): void {
    for (const { broker } of this.#held.values()) if (broker.status().state === "starting") void broker.stop();
  }

  /** Stops a side. Does nothing if it is not started. */
  stop(side: Side, timeoutMs?: number): Promise<void> {
    const held = this.#held.get(side);
    if (held === undefined) return Promise.resolve();
    return this.#inTurn(held, async () => {
      held.started = false;
      await held.broker.stop(timeoutMs === undefined ? {} : { timeoutMs });
    });
  }

  /** Shortens the stops in progress. */
  hurry(timeoutMs: number): void {
    for (const { broker } of this.#held.values()) {
      if (broker.status().state === "stopping") void broker.stop({ timeoutMs });
    }
  }

  #inTurn(held: HeldBroker, run: () => Promise<void>): Promise<void> {
    const done = held.turn.catch(() => undefined).then(run);
    held.turn = done;
    done.catch(() => undefined);
    return done;
  }

  #of(side: Side, accepted: readonly string[]): HeldBroker {
    let held = this.#held.get(side);
    if (held === undefined) {
      const broker = createBroker(this.#plan.adapters[side], this.#plan.optionsOf(side, accepted, this.#options));
      held = { broker, turn: Promise.resolve(), started: false };
      this.#held.set(side, held);
      this.#made(side, broker);
    }
    return held;
  }

  /** The broker object of a side, if it was made. */
  get(side: Side): Broker | undefined {
    return this.#held.get(side)?.broker;
  }

  /** The broker object of a side. Throws `closed` if it is not started. */
  require(side: Side, what: string): Broker {
    const held = this.#held.get(side);
    if (held?.started) return held.broker;
    const { name } = this.#plan.adapters[side];
    throw new MessagingError("closed", `${what} failed: ${name} is not connected in this process at this step`);
  }

  /** The brokers that are started. */
  started(): readonly Side[] {
    return (["from", "to"] as const).filter((side) => this.#held.get(side)?.started);
  }
}
