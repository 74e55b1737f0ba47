import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { pause } from "../../core/clock.ts";
import type { Broker, DeadLettersAddress, IncomingMessage, WorkAddress } from "../../core/index.ts";

/** More are not held at once. */
const MOST_HELD = 10_000;
/** Nothing more comes when nothing came for so long, and everything that the broker counted came. */
const STILL_MS = 1_000;
const LOOK_EVERY_MS = 20;

/**
 * The ids of the dead letters of a queue or subscription, batch by batch; taken by nobody, or given back where they have to
 * be held to be looked at.
 */
export async function* deadLetterIds(broker: Broker, of: WorkAddress): AsyncGenerator<readonly string[]> {
  const internals = internalsOf(broker, "migration");
  const address: DeadLettersAddress = { kind: "dead-letters", of };
  const { adapter } = internals;
  if (adapter.browse === undefined) yield await heldIds(internals, address);
  else for await (const batch of adapter.browse(address)) yield batch.map(({ id }) => id);
}

async function heldIds({ adapter, clock }: BrokerInternals, address: DeadLettersAddress): Promise<readonly string[]> {
  const { ready, unsettled = 0 } = await adapter.depth(address);
  if (ready + unsettled === 0) return [];
  const ids = new Set<string>();
  const tokens: unknown[] = [];
  let last = clock.monotonic();
  const deliver = (batch: readonly IncomingMessage[]): void => {
    last = clock.monotonic();
    for (const { id, token } of batch) {
      ids.add(id);
      tokens.push(token);
    }
  };
  const ignore = (): void => {};
  const sink = { deliver, lost: ignore, revoke: ignore, stalled: ignore, flowing: ignore, filtered: ignore };
  const receiver = await adapter.receive(address, { prefetch: MOST_HELD, ordered: false }, sink);
  try {
    while (tokens.length < ready && clock.monotonic() - last < STILL_MS) await pause(clock, LOOK_EVERY_MS);
  } finally {
    await receiver.settle(tokens.map((token) => ({ token, action: "requeue" })));
    await receiver.close();
  }
  return [...ids];
}
