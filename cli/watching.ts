import type { Watcher } from "../core/adapter.ts";
import { describeAddress, type QueueAddress, type TopicAddress } from "../core/address.ts";
import { pause } from "../core/clock.ts";
import { isMessagingError } from "../core/errors.ts";
import { CommandError } from "./exit-codes.ts";
import { type Frame, nearNameFirst, withBroker } from "./frame.ts";

/** What is watched, and what is done with what is seen. */
interface Watching {
  readonly of: QueueAddress | TopicAddress;
  /** Told when it begins: what is sent from then on is seen. */
  begun(): void;
  /** Called one batch at a time. */
  readonly seen: Watcher["seen"];
}

const AGAIN_MS = 500;

/**
 * Shows what is sent from now on, without taking it from anybody, until the signal is aborted. What comes while the
 * connection is away is not shown. Rejects with a `CommandError` for what can only be seen by taking it.
 */
export async function watch(frame: Frame, { of, begun, seen }: Watching, signal: AbortSignal): Promise<void> {
  await withBroker(frame, { destinations: [] }, async ({ adapter }) => {
    if (adapter.watch === undefined) throw cannot(`${adapter.name} has no way to watch ${describeAddress(of)}`);
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
        // Away for a while, after it had begun.
        if (!hasBegun || !isMessagingError(error, "unreachable")) throw error;
      }
      await pause(frame.context.clock, AGAIN_MS, signal);
    }
  });
}

function cannot(why: string): CommandError {
  const instead = '"anybroker top" counts what waits, "anybroker dlq ls" shows what is dead';
  return new CommandError("unavailable", `tail takes nothing, and ${why}. ${instead}`);
}
