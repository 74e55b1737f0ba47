import type { Archive } from "anybroker/dead-letters";
import { delegate } from "../../../../conformance/decorators/delegate.ts";
import type { Adapter } from "../../../../core/adapter.ts";

/** Between which of its steps a run is to die, in the order in which it takes them for one message. */
export const STEPS = [
  /** The message is in its hands. */
  "held",
  /** It is about to be sent, or archived. */
  "before sending",
  /** The broker, or the archive, has it, and the run was not told. */
  "sent",
  /** The run was told, and is about to remove it. */
  "before removing",
  /** The broker has removed it, and the run was not told. */
  "removed",
  /** All of that, and it is about to be counted. */
  "progress",
] as const;

export type Step = (typeof STEPS)[number];

/** Counts steps from when it is told to, and dies at one of them. */
export class Death {
  readonly #at: Step | undefined;
  readonly #die: () => void;
  #left: number;
  #counts = false;
  isDead = false;

  /** At the so-manieth time that it comes to the step; without a step never. */
  constructor(at: Step | undefined, nth: number, die: () => void) {
    this.#at = at;
    this.#left = nth;
    this.#die = die;
  }

  /** Counts from now on. */
  begin(): void {
    this.#counts = true;
  }

  /** Returns whether it is alive. */
  step(step: Step): boolean {
    if (this.isDead) return false;
    if (!this.#counts || step !== this.#at || --this.#left > 0) return true;
    this.isDead = true;
    this.#die();
    return false;
  }
}

const never = (): Promise<never> => new Promise(() => {});

/** An adapter that dies at a step. From then on nothing reaches the broker, and nothing is heard of it. */
export function mortal(inner: Adapter, death: Death): Adapter {
  return delegate(inner, {
    send(to, batch, report) {
      if (!batch.every(() => death.step("before sending"))) return;
      inner.send(to, batch, (index, result) => {
        if (death.step("sent")) report(index, result);
      });
    },
    async receive(from, options, sink) {
      const receiver = await inner.receive(from, options, {
        deliver: (batch) => {
          if (batch.every(() => death.step("held"))) sink.deliver(batch);
        },
        lost: (tokens, cause) => sink.lost(tokens, cause),
        revoke: (tokens) => sink.revoke(tokens),
        stalled: (cause) => sink.stalled(cause),
        flowing: () => sink.flowing(),
        filtered: (count) => sink.filtered(count),
      });
      return {
        leaseMs: receiver.leaseMs,
        prefetch: (count) => {
          if (!death.isDead) receiver.prefetch(count);
        },
        extend: (batch) => (death.isDead ? never() : receiver.extend(batch)),
        settle: async (batch) => {
          const acks = batch.filter(({ action }) => action === "ack");
          if (!acks.every(() => death.step("before removing")) || death.isDead) return never();
          const results = await receiver.settle(batch);
          return acks.every(() => death.step("removed")) && !death.isDead ? results : never();
        },
        close: () => (death.isDead ? never() : receiver.close()),
      };
    },
  });
}

/** As {@link mortal}, for an archive. */
export function mortalArchive(inner: Archive, death: Death): Archive {
  return {
    async append(entries) {
      if (!entries.every(() => death.step("before sending"))) return never();
      await inner.append(entries);
      if (!entries.every(() => death.step("sent"))) return never();
    },
  };
}
