import { MessagingError } from "../../core/index.ts";
import type { Migration, MigrationOptions } from "./contract.ts";

/**
 * A broker that moves from one broker to another while it is used; see {@link Migration}. Nothing is connected before
 * `start`, and the state is read first: which brokers are used, and how, is what it says. Throws `invalid` for wrong options.
 */
export function migration<FromNative, ToNative>(
  options: MigrationOptions<FromNative | ToNative>,
): Migration<FromNative | ToNative> {
  throw new MessagingError("unsupported", `migration is not built yet: ${typeof options}`);
}
