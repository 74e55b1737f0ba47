import { MessagingError } from "../../core/index.ts";
import type { Read } from "./changes.ts";
import { compareBrokers, refuseLost } from "./compare.ts";
import type { AdvanceOptions } from "./contract.ts";
import { Missing } from "./missing.ts";
import { shareOf } from "./state.ts";
import type { Stepping } from "./stepping.ts";

const LOOK_AGAIN_MS = 500;
const MOST_NAMED = 5;

/** Goes one step on. */
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
      await stepping.leftovers().empty("from", await stepping.broker("from", "looking whether it is empty"));
      return stepping.change(await stepping.changes.read(), { step: "retired", share: 100, drained: ["from"] });
    case "retired":
      throw new MessagingError("invalid", "the migration is at its end: the new broker is used alone");
  }
}

async function prepare(stepping: Stepping, read: Read, { accept = [] }: AdvanceOptions): Promise<void> {
  const { plan } = stepping;
  refuseLost(compareBrokers(plan.adapters.from, plan.adapters.to, plan.destinations), accept);
  plan.refuseNames();
  await plan.state.clearSeals(plan.name);
  const state = { ...read.state, destinations: plan.described, accepted: [...accept] };
  return stepping.change(read, { step: "prepared", share: 0 }, state);
}

async function publishShare(stepping: Stepping, read: Read, share: number): Promise<void> {
  const before = shareOf(read.state);
  if (share > before) return stepping.change(read, { step: "publishing", share });
  throw new MessagingError("invalid", `the share is ${before} already; advance to a larger one, or roll back`);
}

/** Nobody publishes to the old broker any more: what nobody handles there is moved, and what is in order is waited for. */
async function bridgeLeftovers(stepping: Stepping, read: Read): Promise<void> {
  const share = shareOf(read.state);
  if (share !== 100) {
    const what = `${share} % of the keys are published to the new broker`;
    throw new MessagingError("invalid", `${what}; advance with { share }, up to 100, before what is left is bridged`);
  }
  const from = await stepping.broker("from", "bridging");
  const to = await stepping.broker("to", "bridging");
  await stepping.leftovers().move("from", from, to);
  await stepping.quietly("from", () => stepping.leftovers().empty("from", from));
  await stepping.change(await stepping.changes.read(), { step: "bridged", share: 100, drained: ["from"] });
}

async function prove(stepping: Stepping, { accept = [] }: AdvanceOptions): Promise<void> {
  await stepping.leftovers().empty("from", await stepping.broker("from", "looking whether it is empty"));
  const missing = new Missing(stepping.plan);
  for (;;) {
    if (accept.includes("parity")) break;
    const { verdict } = await stepping.report();
    if (verdict === "waived") {
      throw new MessagingError(
        "conflict",
        `ids are not journaled, so parity cannot be proven; accept "parity" to do without`,
      );
    }
    const open = await missing.look();
    if (open.size === 0) break;
    const named = [...open].map(
      ([source, ids]) => `${source}: ${ids.size}, as ${[...ids].slice(0, MOST_NAMED).join(", ")}`,
    );
    const what = `parity is not proven, missing are ${named.join("; ")}`;
    try {
      await stepping.changes.wait(stepping.patience, what, LOOK_AGAIN_MS);
    } catch (cause) {
      stepping.patience.signal?.throwIfAborted();
      throw new MessagingError("conflict", `${what}. Look for them in the report, and go on when they are handled`, {
        cause,
      });
    }
  }
  await stepping.change(await stepping.changes.read(), { step: "proven", share: 100 });
}
