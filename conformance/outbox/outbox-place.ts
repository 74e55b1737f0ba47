import assert from "node:assert/strict";
import type { NewOutboxRow, OutboxClaim, OutboxRow, OutboxStore } from "../../patterns/outbox/store.ts";
import { LONG_MS, type StoreContext } from "../stores/suite.ts";
import type { OpenOutbox, OutboxHarness, OutboxPlace } from "./harness.ts";

/** An ordinary row. */
export function row(id: string, changes: Partial<NewOutboxRow> = {}): NewOutboxRow {
  return {
    id,
    to: { kind: "queue", name: "orders" },
    key: undefined,
    routingKey: undefined,
    headers: Object.create(null) as Record<string, string>,
    body: new TextEncoder().encode(`"${id}"`),
    contentType: "application/json",
    priority: 0,
    delayMs: 0,
    expiresAt: undefined,
    ordered: false,
    discardUnroutable: false,
    ...changes,
  };
}

/** An ordered row of a key. */
export const keyed = (id: string, key: string): NewOutboxRow => row(id, { key, ordered: true });

/** An empty outbox that is removed at the end of the case. */
export class Outboxes {
  readonly context: StoreContext<OutboxHarness>;
  readonly place: OutboxPlace<unknown>;

  private constructor(context: StoreContext<OutboxHarness>, place: OutboxPlace<unknown>) {
    this.context = context;
    this.place = place;
    context.cleanUp(() => place.remove());
  }

  static async make(context: StoreContext<OutboxHarness>): Promise<Outboxes> {
    return new Outboxes(context, await context.harness.place());
  }

  async open(keepSentMs = 0): Promise<OpenOutbox<unknown>> {
    const opened = await this.place.open({ keepSentMs });
    this.context.cleanUp(() => opened.close());
    return opened;
  }

  async store(keepSentMs = 0): Promise<OutboxStore<unknown>> {
    return (await this.open(keepSentMs)).store;
  }
}

/** Inserts rows in one transaction and commits. */
export async function committed(outbox: OpenOutbox<unknown>, rows: readonly NewOutboxRow[]): Promise<void> {
  const { transaction, commit } = await outbox.begin();
  await outbox.store.insert(transaction, rows);
  await commit();
}

const REQUEST = { relay: "suite", limit: 100, leaseMs: LONG_MS };

/** Claims at most `limit` rows, and adds their ids. Without a row: an empty claim. */
export async function take(
  store: OutboxStore<unknown>,
  request: { readonly limit?: number; readonly leaseMs?: number } = {},
): Promise<OutboxClaim & { readonly ids: readonly string[] }> {
  const claim = (await store.claim({ ...REQUEST, ...request })) ?? { token: "", rows: [] };
  const positions = claim.rows.map(({ position }) => position);
  assert.equal(new Set(positions).size, positions.length, "a claim has a row twice");
  return { ...claim, ids: idsOf(claim.rows) };
}

const idsOf = (rows: readonly OutboxRow[]): readonly string[] => rows.map(({ id }) => id);

/** Marks every row of a claim as sent. */
export async function sentAll(store: OutboxStore<unknown>, { token, rows }: OutboxClaim): Promise<void> {
  const settlements = rows.map(({ position }) => ({ position, outcome: "sent" as const }));
  assert.deepEqual(await store.settle(token, settlements), [], "sent rows could not be settled");
}

/** Claims rows and settles them as sent until none is left. Resolves with the ids in order. */
export async function drain(store: OutboxStore<unknown>): Promise<readonly string[]> {
  const ids: string[] = [];
  for (;;) {
    const claim = await take(store);
    if (claim.rows.length === 0) return ids;
    ids.push(...claim.ids);
    await sentAll(store, claim);
  }
}

/** The position of a row of the claim. Fails if it is not there. */
export function positionOf(claim: OutboxClaim, id: string): number {
  const found = claim.rows.find((one) => one.id === id);
  return found?.position ?? assert.fail(`${id} is not in the claim of ${idsOf(claim.rows).join(", ")}`);
}
