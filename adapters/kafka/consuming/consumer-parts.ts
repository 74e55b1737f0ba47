import type { GroupMember, MemberOwner } from "../group/contract.ts";
import type { PartitionOffset } from "../port.ts";
import type { FetcherParts } from "./fetcher-parts.ts";

/** Begins to join a group, as a member that reads these topics. */
export type OpenMember = (
  subscription: { readonly group: string; readonly topics: readonly string[] },
  owner: MemberOwner,
) => GroupMember;

/** What a consumer is made of. */
export interface ConsumerParts extends Omit<FetcherParts, "wanted" | "deliversUnreadable"> {
  readonly openMember: OpenMember;
  /** Milliseconds that what is out may take to be settled when others are to have its partition. */
  readonly drainMs: number;
  /** Everything before the offset is finished and committed to be: it may be deleted. */
  readonly progressed?: ((at: PartitionOffset) => void) | undefined;
  /** How often it is looked which records have to stay for dead letters, in milliseconds. */
  readonly reviewMs: number;
}
