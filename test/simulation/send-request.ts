import type { OutgoingMessage, SendReport, SendResult } from "../../core/adapter.ts";
import type { Address } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import type { Faults } from "./faults.ts";
import type { SimulatedBroker } from "./simulated-broker.ts";

/** One batch on its way to the broker and its answers on their way back. */
export class SendRequest {
  readonly #broker: SimulatedBroker;
  readonly #faults: Faults;
  readonly #to: Address;
  readonly #batch: readonly OutgoingMessage[];
  readonly #report: SendReport;
  readonly #reported = new Set<number>();
  readonly #storesInOrder: boolean;
  readonly #done: () => void;
  #arrived = false;
  #cut = false;

  constructor(
    broker: SimulatedBroker,
    faults: Faults,
    to: Address,
    batch: readonly OutgoingMessage[],
    report: SendReport,
    storesInOrder: boolean,
    done: () => void,
  ) {
    this.#broker = broker;
    this.#faults = faults;
    this.#to = to;
    this.#batch = batch;
    this.#report = report;
    this.#storesInOrder = storesInOrder;
    this.#done = done;
  }

  go(): void {
    this.#broker.time.schedule(() => {
      if (!this.#cut) this.#arrive();
    }, this.#faults.latency());
  }

  #arrive(): void {
    this.#arrived = true;
    const answers: (readonly [number, SendResult])[] = [];
    let broken = false;
    for (const [index, message] of this.#batch.entries()) {
      // Behind a failure nothing is stored where the adapter promises that.
      if (broken) {
        answers.push([index, unknown("a message before it in its batch failed")]);
        continue;
      }
      const result = this.#store(message);
      if (result.status !== "confirmed" && this.#storesInOrder) broken = true;
      answers.push([index, result]);
    }
    for (const [index, result] of this.#faults.shuffle(answers)) {
      const late = this.#faults.lateness();
      if (late > 0) this.#broker.observer.uncertain(this.#batch[index] as OutgoingMessage);
      this.#broker.time.schedule(() => this.#answer(index, result), this.#faults.latency() + late);
    }
  }

  #store(message: OutgoingMessage): SendResult {
    const copy = this.#to.kind === "dead-letters" || this.#to.kind === "subscription";
    const refused = this.#faults.refuses() ? "refused" : copy ? this.#faults.refusesCopies : undefined;
    if (refused !== undefined) {
      if (this.#broker.storesRefused) this.#broker.store(this.#to, message);
      return { status: "rejected", error: new MessagingError(refused, "refused by the simulation") };
    }
    const drop = this.#faults.drop();
    if (drop === "before") return unknown("dropped before it was stored");
    this.#broker.store(this.#to, message);
    if (drop === undefined) return { status: "confirmed" };
    this.#broker.observer.uncertain(message);
    return unknown("its answer was dropped");
  }

  #answer(index: number, result: SendResult): void {
    if (this.#reported.has(index)) return;
    this.#reported.add(index);
    this.#report(index, result);
    if (this.#reported.size === this.#batch.length) this.#done();
  }

  /** The connection is gone. `silent`: so is whoever waits for answers. */
  cut(ordered: boolean, silent: boolean): void {
    if (this.#cut) return;
    this.#cut = true;
    if (!this.#arrived) {
      const end = this.#faults.onTheWire(ordered);
      if (end === "arrives") this.#storeAll();
      if (end === "late") this.#broker.time.schedule(() => this.#storeAll(), 3_000);
    }
    for (const [index, message] of this.#batch.entries()) {
      if (!this.#reported.has(index)) this.#broker.observer.uncertain(message);
      if (silent) this.#reported.add(index);
      else this.#answer(index, unknown("the connection was cut"));
    }
  }

  #storeAll(): void {
    for (const message of this.#batch) this.#broker.store(this.#to, message);
  }
}

function unknown(why: string): SendResult {
  return { status: "unknown", cause: new Error(why) };
}
