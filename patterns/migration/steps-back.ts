import { MessagingError } from "../../core/index.ts";
import type { Read } from "./changes.ts";
import type { RollbackOptions } from "./contract.ts";
import { epochOf, shareOf } from "./state.ts";
import type { Stepping } from "./stepping.ts";
import { MIGRATION_STEPS, type MigrationStep } from "./steps.ts";

const PUBLISHING = MIGRATION_STEPS.indexOf("publishing");

/** Goes one step back. Every step can be gone back from. */
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

/** Nobody publishes to the new broker any more: what nobody handles there is moved back, and what is in order is waited for. */
async function leaveNew(stepping: Stepping): Promise<void> {
  const from = await stepping.broker("from", "bridging");
  const to = await stepping.broker("to", "bridging");
  await stepping.leftovers().move("to", to, from);
  await stepping.quietly("to", () => stepping.leftovers().empty("to", to));
  await stepping.change(await stepping.changes.read(), { step: "prepared", share: 0, drained: ["to"] });
}

/** Whether going back has come to where it was to go. */
export function isBack(step: MigrationStep, share: number, { to, share: wanted }: RollbackOptions): boolean {
  if (wanted !== undefined) {
    return MIGRATION_STEPS.indexOf(step) < PUBLISHING || (step === "publishing" && share <= wanted);
  }
  return to !== undefined && MIGRATION_STEPS.indexOf(step) <= MIGRATION_STEPS.indexOf(to);
}
