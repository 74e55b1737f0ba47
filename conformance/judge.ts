import assert from "node:assert/strict";
import { addressName, workAddress } from "../core/address.ts";
import type { Broker } from "../core/broker.ts";
import type { Queue, Topic } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import type { CaseContext } from "./context.ts";

/** Waits until every confirmed message, except some ids, has had its effect or was read from the dead letters. */
export async function allEffected(
  context: CaseContext,
  patienceMs?: number,
  except: readonly string[] = [],
): Promise<void> {
  const done = (): boolean => {
    const { lost, pending } = context.ledger.verdict();
    return pending.length === 0 && lost.every((entry) => except.some((id) => entry.endsWith(`/${id}`)));
  };
  await context.until("every confirmed message to be handled", done, patienceMs);
}

/** Waits until a queue or subscription is empty and everything is settled. */
export async function drained(
  context: CaseContext,
  broker: Broker,
  of: Queue<never, unknown> | Topic<never, unknown>,
  subscription = "",
): Promise<void> {
  const source = addressName(workAddress(of.name, of.kind === "queue" ? undefined : subscription));
  let last = "";
  const empty = async (): Promise<boolean> => {
    try {
      const { ready, unsettled } = await (of.kind === "queue" ? broker.depth(of) : broker.depth(of, subscription));
      last = `${ready} ready, ${unsettled ?? "?"} unsettled`;
      const held = broker.status().consumers.filter((consumer) => consumer.source === source);
      return ready === 0 && (unsettled ?? 0) === 0 && held.every((consumer) => consumer.unsettled === 0);
    } catch (error) {
      // Unreachable for now: try again.
      if (isMessagingError(error) && !["not-found", "invalid"].includes(error.code)) return false;
      throw error;
    }
  };
  try {
    await context.until(`${source} to be empty`, empty);
  } catch (error) {
    throw new Error(`${source} is not empty: ${last}`, { cause: error });
  }
}

/** Fails if the ledger has a forbidden finding, or more duplicates than allowed (default 0). */
export function judge(context: CaseContext, bounds: { readonly duplicates?: number } = {}): void {
  const { lost, unexpected, denied, altered, pending, duplicates } = context.ledger.verdict();
  const ledger = context.ledger.describe();
  assert.equal(lost.length, 0, `LOST: confirmed, neither handled nor dead-lettered\n${ledger}`);
  assert.equal(unexpected.length, 0, `handled, but never published there\n${ledger}`);
  assert.equal(denied.length, 0, `handled, but reported to the publisher as not stored\n${ledger}`);
  assert.equal(altered.length, 0, `handled with another body than published\n${ledger}`);
  assert.equal(pending.length, 0, `publishes without an end\n${ledger}`);
  const most = bounds.duplicates ?? 0;
  assert.ok(duplicates.length <= most, `${duplicates.length} duplicates, ${most} allowed\n${ledger}`);
  if (duplicates.length > 0) context.note(`${duplicates.length} duplicates, ${most} allowed`);
}

/** For cases without faults: everything was handled once, and nothing is left. */
export async function judgeClean(
  context: CaseContext,
  broker: Broker,
  ...queues: readonly Queue<never, unknown>[]
): Promise<void> {
  await allEffected(context);
  for (const one of queues) await drained(context, broker, one);
  judge(context);
}
