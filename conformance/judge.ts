import assert from "node:assert/strict";
import { addressName, workAddress } from "../core/address.ts";
import type { Broker } from "../core/broker.ts";
import type { Queue, Topic } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import type { CaseContext } from "./context.ts";

/** Waits until everything that was confirmed, but for some ids, has had its effect or was read from the dead letters. */
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

/** Waits until nothing is left on a queue or subscription: what was handled has been settled, and no copy of it lingers. */
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
      // While the broker is away there is nothing to see yet.
      if (isMessagingError(error) && !["not-found", "invalid"].includes(error.code)) return false;
      throw error;
    }
  };
  try {
    await context.until(`nothing to be left on ${source}`, empty);
  } catch (error) {
    throw new Error(`${source} is not empty: ${last}`, { cause: error });
  }
}

/** The judgement over the ledger: what may never be, and duplicates within a bound (default: none). */
export function judge(context: CaseContext, bounds: { readonly duplicates?: number } = {}): void {
  const { lost, unexpected, denied, altered, pending, duplicates } = context.ledger.verdict();
  const books = context.ledger.describe();
  assert.equal(lost.length, 0, `LOST: confirmed and never handled\n${books}`);
  assert.equal(unexpected.length, 0, `handled and never published there\n${books}`);
  assert.equal(denied.length, 0, `handled, though the publisher was told it is not stored\n${books}`);
  assert.equal(altered.length, 0, `handled with another body than the one published\n${books}`);
  assert.equal(pending.length, 0, `publishes without an end\n${books}`);
  const most = bounds.duplicates ?? 0;
  assert.ok(duplicates.length <= most, `${duplicates.length} duplicates where ${most} are allowed\n${books}`);
  if (duplicates.length > 0) context.note(`${duplicates.length} duplicates of at most ${most}`);
}

/** The whole judgement of a case without faults: everything handled, nothing left, nothing twice. */
export async function judgeClean(
  context: CaseContext,
  broker: Broker,
  ...queues: readonly Queue<never, unknown>[]
): Promise<void> {
  await allEffected(context);
  for (const one of queues) await drained(context, broker, one);
  judge(context);
}
