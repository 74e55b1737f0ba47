import type { Clock } from "../../../core/clock.ts";
import type { GroupMember } from "./contract.ts";

/** How long the first assignment is waited for; a group that begins deals out nothing for some seconds. */
const FIRST_ASSIGNMENT_MS = 10_000;

/** Resolves when a member has its share, or after 10 s. Rejects with `conflict` if the group is not one that it can join. */
export function firstAssignment(clock: Clock, member: Pick<GroupMember, "complete">): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = clock.schedule(resolve, FIRST_ASSIGNMENT_MS);
    member.complete.then(resolve, reject).finally(() => clock.cancel(timer));
  });
}
