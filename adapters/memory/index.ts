import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { MemoryAdapter } from "./adapter.ts";
import { MemorySpace } from "./space.ts";

/** The options of {@link memorySpace}. */
export interface MemorySpaceOptions {
  /**
   * The most messages on one queue or subscription, unsettled ones included; a send to a full one waits for room until
   * its deadline. What consumers send on (retries, dead letters), delayed messages and the copies of events are always
   * taken. Default: no limit.
   */
  readonly maxMessages?: number;
  /** Where delays take their time from. Default: the machine. */
  readonly clock?: Clock;
}

/** The options of {@link memory}; those of the space count only without `space`. */
export interface MemoryOptions extends MemorySpaceOptions {
  /** A space shared with other brokers of this process. Default: one of its own. */
  readonly space?: MemorySpace;
  /**
   * Makes each delivery a lease of so many milliseconds, which the engine extends while the handler runs. Default: no
   * leases; a delivery is the consumer's until it settles it or closes.
   */
  readonly leaseMs?: number;
}

/**
 * A space for the messages of in-process brokers; see {@link MemoryOptions.space}. Throws `invalid` for wrong options.
 */
export function memorySpace(options: MemorySpaceOptions = {}): MemorySpace {
  checkOptions("memorySpace", options, ["maxMessages", "clock"]);
  const { maxMessages = Number.POSITIVE_INFINITY } = options;
  const clock = clockOf("memorySpace { clock }", options.clock);
  if (options.maxMessages !== undefined) checkInteger("memorySpace { maxMessages }", maxMessages, 1);
  return new MemorySpace(clock, maxMessages);
}

/**
 * The in-process adapter: the embedded default, with the semantics of the real brokers. At least once: what a consumer
 * did not settle is delivered again. Messages live as long as the space does and are gone with the process. Throws
 * `invalid` for wrong options.
 */
export function memory(options: MemoryOptions = {}): MemoryAdapter {
  checkOptions("memory", options, ["space", "leaseMs", "maxMessages", "clock"]);
  const { space, leaseMs, clock, maxMessages } = options;
  if (leaseMs !== undefined) checkInteger("memory { leaseMs }", leaseMs, 1);
  if (space !== undefined && maxMessages !== undefined) {
    throw new MessagingError(
      "invalid",
      "memory takes either a space or maxMessages: the bound of a shared space is memorySpace({ maxMessages })",
    );
  }
  const ownSpace = (): MemorySpace =>
    memorySpace({ ...(clock === undefined ? {} : { clock }), ...(maxMessages === undefined ? {} : { maxMessages }) });
  return new MemoryAdapter(space ?? ownSpace(), leaseMs, clockOf("memory { clock }", clock));
}

export type { MemoryAdapter } from "./adapter.ts";
export type { MemorySpace } from "./space.ts";
