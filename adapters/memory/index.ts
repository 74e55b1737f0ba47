import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { MemoryAdapter } from "./adapter.ts";
import { MemorySpace } from "./space.ts";

/** The options of {@link memorySpace}. */
export interface MemorySpaceOptions {
  /**
   * The most messages on one queue or subscription, unsettled ones included. A send to a full queue waits for room
   * until its deadline. Retries, dead letters, delayed messages and copies of events are always accepted. Default: no
   * limit.
   */
  readonly maxMessages?: number;
  /** The clock for delays. Default: the machine's. */
  readonly clock?: Clock;
}

/** The options of {@link memory}. With `space`, `maxMessages` is refused and `clock` counts for leases only. */
export interface MemoryOptions extends MemorySpaceOptions {
  /** A space shared with other brokers of this process. Default: a new one. */
  readonly space?: MemorySpace;
  /**
   * Gives each delivery a lease of this many milliseconds, which the engine extends while the handler runs. Default: no
   * leases; a consumer keeps a delivery until it settles it or closes.
   */
  readonly leaseMs?: number;
}

/** Creates a space that in-process brokers share. Throws `invalid` for wrong options. */
export function memorySpace(options: MemorySpaceOptions = {}): MemorySpace {
  checkOptions("memorySpace", options, ["maxMessages", "clock"]);
  const { maxMessages = Number.POSITIVE_INFINITY } = options;
  const clock = clockOf("memorySpace { clock }", options.clock);
  if (options.maxMessages !== undefined) checkInteger("memorySpace { maxMessages }", maxMessages, 1);
  return new MemorySpace(clock, maxMessages);
}

/**
 * Creates the in-process adapter, with the semantics of the real brokers. Delivery is at least once: unsettled messages
 * are delivered again. Messages exist as long as the space, and at most as long as the process. Throws `invalid` for
 * wrong options.
 */
export function memory(options: MemoryOptions = {}): MemoryAdapter {
  checkOptions("memory", options, ["space", "leaseMs", "maxMessages", "clock"]);
  const { space, leaseMs, clock, maxMessages } = options;
  if (leaseMs !== undefined) checkInteger("memory { leaseMs }", leaseMs, 1);
  if (space !== undefined && maxMessages !== undefined) {
    throw new MessagingError(
      "invalid",
      "memory() takes either space or maxMessages; to limit a shared space, create it with memorySpace({ maxMessages })",
    );
  }
  const ownSpace = (): MemorySpace =>
    memorySpace({ ...(clock === undefined ? {} : { clock }), ...(maxMessages === undefined ? {} : { maxMessages }) });
  return new MemoryAdapter(space ?? ownSpace(), leaseMs, clockOf("memory { clock }", clock));
}

export type { MemoryAdapter } from "./adapter.ts";
export type { MemorySpace } from "./space.ts";
