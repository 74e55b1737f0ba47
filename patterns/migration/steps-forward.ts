import type { Broker } from "../../core/broker.ts";
import { type Clock, pause } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import type { Announcement, Changes, Patience, Read } from "./changes.ts";
import { compareBrokers, Missing, refuseLost } from "./compare.ts";
import type { AdvanceOptions, ParityReport, RollbackOptions } from "./contract.ts";
import { Leftovers } from "./drain.ts";
import type { Plan } from "./plan.ts";
import { epochOf, type MigrationState, type Side, shareOf } from "./state.ts";
import { MIGRATION_STEPS, type MigrationStep } from "./steps.ts";

/** How long a side stays draining if the process that asked for it crashes. */
const DRAINING_MS = 10_000;

/** The parts of {@link Stepping}. */
interface SteppingParts {
  readonly plan: Plan;
  readonly changes: Changes;
  readonly clock: Clock;
  readonly patience: Patience;
  readonly emptyForMs: number;
  readonly rate: number | undefined;
  readonly by: string | undefined;
  /** Returns the started broker object of a side. */
  readonly broker: (side: Side, what: string) => Promise<Broker>;
  readonly report: () => Promise<ParityReport>;
}

/** What all steps use. */
export class Stepping {
  readonly plan: Plan;
  readonly changes: Changes;
  readonly patience: Patience;
  readonly broker: SteppingParts["broker"];
  readonly report: SteppingParts["report"];
  readonly #parts: SteppingParts;

  constructor(parts: SteppingParts) {
    this.#parts = parts;
    this.plan = parts.plan;
    this.changes = parts.changes;
    this.patience = parts.patience;
    this.broker = parts.broker;
    this.report = parts.report;
  }

  leftovers(): Leftovers {
    return new Leftovers(this.#parts);
  }

  /** Announces a change, and waits until it is in force. */
  async change(read: Read, announcement: Announcement, state: MigrationState = read.state): Promise<void> {
    const { by } = this.#parts;
    const who = by === undefined ? {} : { by };
    await this.changes.announce(read, { ...announcement, ...who }, { ...state, draining: null, moved: null });
    await this.changes.settled(announcement, this.patience);
  }

  /** Marks a side as draining during `wait`. The change that follows ends it. */
  async whileDraining(side: Side, wait: () => Promise<void>): Promise<void> {
    const over = new AbortController();
    const { clock } = this.#parts;
    const mark = (): Promise<void> =>
      this.changes.amend((state, now) => ({ ...state, draining: { side, until: now + DRAINING_MS } }));
    const renewing = (async () => {
      while (!over.signal.aborted) {
        await pause(clock, DRAINING_MS / 2, over.signal);
        if (!over.signal.aborted) await mark().catch(() => undefined);
      }
    })();
    try {
      await mark();
      await wait();
    } catch (error) {
      over.abort();
      await renewing;
      await this.changes.amend((state) => ({ ...state, draining: null }));
      throw error;
    } finally {
      over.abort();
      await renewing;
    }
  }
}

const PUBLISHING = MIGRATION_STEPS.indexOf("publishing");

/** Goes one step back. Every step can be rolled back. */
export async function stepBack(stepping: Stepping, read: Read, options: RollbackOptions): Promise<void> {
  const { state } = read;
  const share = shareOf(state);
  switch (state.step) {
    case "new":
      throw new MessagingError("invalid", "there is nothing to roll back: the migration has not begun");
    case "prepared":
      return stepping.change(read, { step: "new", share: 0 });
    case "consuming":
      return leaveNew(stepping);
    case "publishing":
      return publishLess(stepping, read, options.share ?? 0, options);
    case "bridged":
      return stepping.change(read, { step: "publishing", share });
    case "proven":
      return stepping.change(read, { step: "bridged", share });
    case "retired":
      return stepping.change(read, { step: "proven", share });
  }
}

async function publishLess(stepping: Stepping, read: Read, share: number, options: RollbackOptions): Promise<void> {
  const { state } = read;
  const before = shareOf(state);
  if (share >= before) {
    throw new MessagingError("invalid", `the share is ${before}; roll back to a smaller one, or advance`);
  }
  const unordered = options.accept?.includes("order") ? epochOf(state) + 1 : state.unordered;
  return stepping.change(read, { step: share === 0 ? "consuming" : "publishing", share }, { ...state, unordered });
}

/** All publish to the old broker: moves unordered messages and dead letters back, and waits for the ordered ones. */
async function leaveNew(stepping: Stepping): Promise<void> {
  const from = await stepping.broker("from", "bridging");
  const to = await stepping.broker("to", "bridging");
  await stepping.leftovers().move("to", to, from);
  await stepping.whileDraining("to", () => stepping.leftovers().empty("to", to));
  await stepping.change(await stepping.changes.read(), { step: "prepared", share: 0, drained: ["to"] });
}

/** Whether a rollback has reached its goal. */
export function isBack(step: MigrationStep, share: number, { to, share: wanted }: RollbackOptions): boolean {
  if (wanted !== undefined) {
    return MIGRATION_STEPS.indexOf(step) < PUBLISHING || (step === "publishing" && share <= wanted);
  }
  return to !== undefined && MIGRATION_STEPS.indexOf(step) <= MIGRATION_STEPS.indexOf(to);
}

const RECHECK_MS = 500;
const MOST_LISTED = 5;

/** Goes one step forward. */
export async function stepForward(stepping: Stepping, read: Read, options: AdvanceOptions): Promise<void> {
  const { step } = read.state;
  const { share } = options;
  if (share !== undefined && step !== "consuming" && step !== "publishing") {
    throw new MessagingError(
      "invalid",
      `advance { share } is for the steps "consuming" and "publishing", and this is "${step}"`,
    );
  }
  switch (step) {
    case "new":
      return prepare(stepping, read, options);
    case "prepared":
      return stepping.change(read, { step: "consuming", share: 0 });
    case "consuming":
    case "publishing":
      return share === undefined ? bridgeLeftovers(stepping, read) : publishShare(stepping, read, share);
    case "bridged":
      return prove(stepping, options);
    case "proven":
      await stepping.leftovers().empty("from", await stepping.broker("from", "the check whether it is empty"));
      return stepping.change(await stepping.changes.read(), { step: "retired", share: 100, drained: ["from"] });
    case "retired":
      throw new MessagingError("invalid", "the migration is complete: only the new broker is used");
  }
}

async function prepare(stepping: Stepping, read: Read, { accept = [] }: AdvanceOptions): Promise<void> {
  const { plan } = stepping;
  refuseLost(compareBrokers(plan.adapters.from, plan.adapters.to, plan.destinations), accept);
  plan.refuseNames();
  await plan.state.clearBarrierAcks(plan.name);
  const state = { ...read.state, destinations: plan.described, accepted: [...accept] };
  return stepping.change(read, { step: "prepared", share: 0 }, state);
}

async function publishShare(stepping: Stepping, read: Read, share: number): Promise<void> {
  const before = shareOf(read.state);
  if (share > before) return stepping.change(read, { step: "publishing", share });
  throw new MessagingError("invalid", `the share is ${before} already; advance to a larger one, or roll back`);
}

/** All publish to the new broker: moves unordered messages and dead letters, and waits for the ordered ones. */
async function bridgeLeftovers(stepping: Stepping, read: Read): Promise<void> {
  const share = shareOf(read.state);
  if (share !== 100) {
    const what = `${share} % of the keys are published to the new broker`;
    throw new MessagingError("invalid", `${what}; advance with { share } to 100 first`);
  }
  const from = await stepping.broker("from", "bridging");
  const to = await stepping.broker("to", "bridging");
  await stepping.leftovers().move("from", from, to);
  await stepping.whileDraining("from", () => stepping.leftovers().empty("from", from));
  await stepping.change(await stepping.changes.read(), { step: "bridged", share: 100, drained: ["from"] });
}

async function prove(stepping: Stepping, { accept = [] }: AdvanceOptions): Promise<void> {
  await stepping.leftovers().empty("from", await stepping.broker("from", "the check whether it is empty"));
  const missing = new Missing(stepping.plan);
  for (;;) {
    if (accept.includes("parity")) break;
    const { verdict } = await stepping.report();
    if (verdict === "waived") {
      throw new MessagingError(
        "conflict",
        `ids are not journaled, so parity cannot be proven; accept "parity" to continue without the proof`,
      );
    }
    const open = await missing.check();
    if (open.size === 0) break;
    const named = [...open].map(
      ([source, ids]) => `${source}: ${ids.size}, such as ${[...ids].slice(0, MOST_LISTED).join(", ")}`,
    );
    const what = `parity is not proven, missing are ${named.join("; ")}`;
    try {
      await stepping.changes.wait(stepping.patience, what, RECHECK_MS);
    } catch (cause) {
      stepping.patience.signal?.throwIfAborted();
      throw new MessagingError("conflict", `${what}. Find them with the report, and advance when they are handled`, {
        cause,
      });
    }
  }
  await stepping.change(await stepping.changes.read(), { step: "proven", share: 100 });
}
