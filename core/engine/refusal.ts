import type { Adapter } from "../adapter.ts";
import type { CapabilityName } from "../capabilities.ts";
import { MessagingError } from "../errors.ts";

/** Why something that asks for a capability cannot be had on this adapter; undefined if it can. */
export function refusal(where: string, adapter: Adapter, capability: CapabilityName): MessagingError | undefined {
  const { support, note } = adapter.capabilities[capability];
  if (support !== "unsupported") return undefined;
  return new MessagingError(
    "unsupported",
    `${where} asks for ${capability}, and ${adapter.name} cannot give it: ${note}`,
  );
}
