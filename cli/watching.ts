import type { Watcher } from "../core/adapter.ts";
import { describeAddress, type QueueAddress, type TopicAddress } from "../core/address.ts";
import { pause } from "../core/clock.ts";
import { isMessagingError } from "../core/errors.ts";
import { CommandError } from "./exit-codes.ts";
import { type Frame, nearNameFirst, withBroker } from "./frame.ts";

/** What to watch, with callbacks. */
interface Watching {
  readonly of: QueueAddress | TopicAddress;
  /** Called when watching begins: messages sent from then on are seen. */
  begun(): void;
  /** Called with one batch at a time. */
  readonly seen: Watcher["seen"];
}

const RETRY_MS = 500;

/**
 * Watches what is sent, without consuming it, until the signal is aborted. Misses messages while the connection is lost.
 * Rejects with a `CommandError` if the broker cannot watch this.
 */
export async function watch(frame: Frame, { of, begun, seen }: Watching, signal: AbortSignal): Promise<void> {
  await withBroker(frame, { destinations: [] }, async ({ adapter }) => {
    if (adapter.watch === undefined) throw cannot(`${adapter.name} cannot watch ${describeAddress(of)}`);
    for (let hasBegun = false; !signal.aborted; ) {
      const ended = Promise.withResolvers<void>();
      signal.addEventListener("abort", () => ended.resolve(), { once: true });
      try {
        const end = await adapter.watch(of, {
          seen: (batch) => seen(batch).catch(ended.reject),
          ended: (cause) => {
            frame.terminal.note(frame.terminal.notePaint.yellow(frame.secrets.masked(cause.message)));
            ended.resolve();
          },
        });
        if (!hasBegun) begun();
        hasBegun = true;
        try {
          await ended.promise;
        } finally {
          await end();
        }
      } catch (error) {
        if (isMessagingError(error, "unsupported")) throw cannot(error.message);
        if (!hasBegun && isMessagingError(error, "not-found")) {
          throw await nearNameFirst(error, adapter, of, frame.configuration.destinations ?? []);
        }
        // The broker is unreachable for now, and watching had begun.
        if (!hasBegun || !isMessagingError(error, "unreachable")) throw error;
      }
      await pause(frame.context.clock, RETRY_MS, signal);
    }
  });
}

function cannot(why: string): CommandError {
  const instead = '"anybroker top" counts waiting messages, "anybroker dlq ls" shows dead letters';
  return new CommandError("unavailable", `tail consumes nothing, and ${why}. ${instead}`);
}
