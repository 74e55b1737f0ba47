import assert from "node:assert/strict";
import type { NewOutboxRow, OutboxRow } from "../../../patterns/outbox/store.ts";
import type { StoreCase, StoreContext } from "../../stores/suite.ts";
import type { OutboxHarness } from "../harness.ts";
import { committed, drain, keyed, Outboxes, row, take } from "../outbox-place.ts";

export const writing: readonly StoreCase<OutboxHarness>[] = [
  { number: "O1", title: "a committed row is claimed as it was written, with any content", run: keeps },
  { number: "O2", title: "rolled back rows are never claimed, committed ones always", run: rollsBack },
  { number: "O3", title: "a large insert is complete and in order", run: writesMany },
  { number: "O4", title: "a row with a lower position that commits late is claimed", run: commitsLate },
];

const ODD: readonly string[] = [
  "",
  " ",
  "'",
  '"',
  "\\",
  "$1",
  "?",
  "é🦆",
  "{}",
  "null",
  "--",
  "a\nb\tc",
  "%_",
  "{a,b}",
];

const TRAP = "__proto__";

function oddRows(context: StoreContext<OutboxHarness>): NewOutboxRow[] {
  const headers = Object.assign(Object.create(null) as Record<string, string>, {
    constructor: "c",
    é: "ü🦆",
    empty: "",
  });
  headers[TRAP] = "own";
  return [
    row(context.name(), { headers, body: new Uint8Array(0) }),
    row(context.name(), {
      body: Uint8Array.from({ length: 256 }, (_, byte) => byte),
      contentType: "application/x-odd",
    }),
    row(context.name(), { to: { kind: "topic", name: "order.placed" }, routingKey: "geo.us", discardUnroutable: true }),
    row(context.name(), { priority: 31, expiresAt: 4_102_444_800_000, key: "k", ordered: true }),
    ...ODD.map((odd, n) => row(context.name(), { key: `${n} ${odd}`, headers: { odd }, contentType: `text/${n}` })),
  ];
}

function comparable({ position: _, attempts, createdAt: __, ...rest }: OutboxRow): object {
  assert.equal(attempts, 0, "a new row has attempts");
  return { ...rest, headers: Object.entries(rest.headers), body: Buffer.from(rest.body).toString("hex") };
}

async function keeps(context: StoreContext<OutboxHarness>): Promise<void> {
  const outbox = await (await Outboxes.make(context)).open();
  const rows = oddRows(context);
  await committed(outbox, rows);
  const claim = await take(outbox.store);
  const written = rows.map(({ delayMs: _, ...rest }) =>
    comparable({ ...rest, position: 0, attempts: 0, createdAt: 0 }),
  );
  assert.deepEqual(claim.rows.map(comparable), written);
  for (const { createdAt, headers } of claim.rows) {
    assert.ok(Number.isFinite(createdAt) && createdAt > 0, `a row has the creation time ${createdAt}`);
    assert.equal(Object.getPrototypeOf(headers), null, "headers have a prototype");
  }
  const positions = claim.rows.map(({ position }) => position);
  assert.deepEqual(
    positions,
    [...positions].sort((one, other) => one - other),
    "positions do not ascend",
  );
}

async function rollsBack(context: StoreContext<OutboxHarness>): Promise<void> {
  const outboxes = await Outboxes.make(context);
  const [outbox, other] = [await outboxes.open(), await outboxes.open()];
  const gone = await outbox.begin();
  await outbox.store.insert(gone.transaction, [row("gone-1"), keyed("gone-2", "k")]);
  await gone.rollback();
  const open = await outbox.begin();
  await outbox.store.insert(open.transaction, [keyed("kept-1", "k")]);
  await outbox.store.insert(open.transaction, []);
  await outbox.store.insert(open.transaction, [keyed("kept-2", "k"), row("kept-3")]);
  await open.commit();
  assert.deepEqual(await drain(other.store), ["kept-1", "kept-2", "kept-3"]);
  assert.deepEqual(await drain(outbox.store), []);
}

const MANY = 5_000;

async function writesMany(context: StoreContext<OutboxHarness>): Promise<void> {
  const outbox = await (await Outboxes.make(context)).open();
  const ids = Array.from({ length: MANY }, (_, n) => `many-${n}`);
  await committed(
    outbox,
    ids.map((id, n) => row(id, n % 2 === 0 ? {} : { key: `k${n % 7}`, ordered: true })),
  );
  const came = await drain(outbox.store);
  assert.equal(came.length, MANY, `${came.length} of ${MANY} rows were claimed`);
  const keyOf = (id: string): number => Number(id.split("-")[1]) % 14;
  for (let key = 1; key < 14; key += 2) {
    const wanted = ids.filter((id) => keyOf(id) === key);
    assert.deepEqual(
      came.filter((id) => keyOf(id) === key),
      wanted,
      "the rows of a key were claimed in another order",
    );
  }
  assert.deepEqual([...came].sort(), [...ids].sort());
}

async function commitsLate(context: StoreContext<OutboxHarness>): Promise<void> {
  const { withoutLateCommits } = context.harness;
  if (withoutLateCommits !== undefined) return context.cannot("", withoutLateCommits);
  const outbox = await (await Outboxes.make(context)).open();
  const early = await outbox.begin();
  await outbox.store.insert(early.transaction, [row("lower"), keyed("lower-of-key", "k")]);
  await committed(outbox, [row("higher"), keyed("higher-of-key", "k"), keyed("other-key", "l")]);
  const first = await drain(outbox.store);
  assert.deepEqual([...first].sort(), ["higher", "higher-of-key", "other-key"]);
  await early.commit();
  const late = await drain(outbox.store);
  assert.deepEqual([...late].sort(), ["lower", "lower-of-key"], "rows that committed late were not claimed");
}
