import { createBroker, queue } from "anybroker";
import { memory } from "anybroker/memory";
import { createOutbox, createRelay, type RelayEvent } from "anybroker/outbox";
import { sqliteOutbox } from "anybroker/outbox/sqlite";
import { expect, onTestFinished, test } from "vitest";
import { newDatabase, openDatabase } from "./databases.ts";

const CHANGES = [
  `headers = '{"a":5}'`,
  `headers = '{"a":{}}'`,
  `headers = '[1,2]'`,
  `headers = '{nope'`,
  `headers = ''`,
  `kind = 'other'`,
  `priority = 9223372036854775807`,
  `priority = -1`,
  `priority = 32`,
  `priority = 8640000000000000`,
  `ordered = 9223372036854775807`,
  `ordered = 7`,
  `discard_unroutable = 9223372036854775807`,
  `priority = -1, attempts = 9223372036854775807`,
  `expires_at = -9223372036854775808`,
  `created_at = 9223372036854775807`,
];

test("rows that somebody else changed are quarantined; the others are sent, and the relay goes on", async () => {
  const { file, remove } = newDatabase();
  const writing = openDatabase(file);
  onTestFinished(() => {
    writing.close();
    remove();
  });
  const numbers = queue<{ n: number }>("numbers");
  const broker = createBroker(memory());
  const handled: number[] = [];
  broker.consume(numbers, ({ n }) => void handled.push(n));
  await broker.start();
  const store = sqliteOutbox(() => openDatabase(file));
  await store.migrate();
  const outbox = createOutbox({ store, broker });
  for (let n = 0; n <= CHANGES.length; n++) await outbox.send(writing, numbers, { n }, { id: `m-${n}` });
  CHANGES.forEach((change, n) => {
    writing.exec(`UPDATE anybroker_outbox SET ${change} WHERE message_id = 'm-${n}'`);
  });

  const events: RelayEvent[] = [];
  const relay = createRelay({ store, broker, clean: false, onEvent: (event) => events.push(event) });
  await relay.start();
  await expect.poll(() => relay.status(), { timeout: 240_000 }).toMatchObject({ outbox: { unsent: 0 } });
  await expect.poll(() => handled, { timeout: 240_000 }).toEqual([CHANGES.length]);
  await relay.stop();
  const quarantined = events.filter((event) => event.type === "quarantined");
  expect(quarantined.map(({ id }) => id).sort()).toEqual(CHANGES.map((_, n) => `m-${n}`).sort());
  for (const { error } of quarantined) {
    const message = expect.stringMatching(/does not come back as it was|has the priority/);
    expect(error).toMatchObject({ code: "invalid", message });
  }
  const listed = await store.listQuarantined({ limit: 100 });
  expect(listed.map(({ id }) => id).sort()).toEqual(CHANGES.map((_, n) => `m-${n}`).sort());
  await broker.stop();
  await store.close();
});

/** An outbox of rows m-0 to m-2, and a connection of somebody else. */
async function three() {
  const { file, remove } = newDatabase();
  const writing = openDatabase(file);
  const store = sqliteOutbox(() => openDatabase(file));
  onTestFinished(async () => {
    await store.close();
    writing.close();
    remove();
  });
  await store.migrate();
  const numbers = queue<{ n: number }>("numbers");
  const outbox = createOutbox({ store, broker: createBroker(memory(), { destinations: [numbers] }) });
  for (let n = 0; n < 3; n++) await outbox.send(writing, numbers, { n }, { id: `m-${n}` });
  const claimed = async () => {
    const claim = await store.claim({ relay: "test", limit: 10, leaseMs: 60_000 });
    return claim?.rows.map(({ id }) => id) ?? [];
  };
  return { store, writing, claimed };
}

test.each([
  "position = 9223372036854775807",
  "position = -9223372036854775808",
  "state = 7",
  "state = -9223372036854775808",
])("a row that no claim can take is passed over, and told: %s", async (change) => {
  const { store, writing, claimed } = await three();
  writing.exec(`UPDATE anybroker_outbox SET ${change} WHERE message_id = 'm-0'`);
  expect(await claimed()).toEqual(["m-1", "m-2"]);
  const [stall] = (await store.health()).stalls;
  expect(stall).toMatchObject({ cause: "unclaimable", message: expect.stringContaining("1 rows have a position") });
});

test.each([
  "state = 1, token = 't', ends_at = 9223372036854775807",
  "state = 1, token = 't', ends_at = NULL",
  "state = 1, token = 't', ends_at = -9223372036854775808",
  "state = 1, token = NULL",
])("a row in a claim of nobody is claimed again: %s", async (change) => {
  const { store, writing, claimed } = await three();
  writing.exec(`UPDATE anybroker_outbox SET ${change} WHERE message_id = 'm-0'`);
  expect(await store.health()).toMatchObject({ unsent: 3 });
  expect(await claimed()).toEqual(["m-0", "m-1", "m-2"]);
});

test.each(["ends_at = 9223372036854775807", "ends_at = NULL", "position = 0 - position"])(
  "quarantined rows are listed, whatever somebody changed: %s",
  async (change) => {
    const { store, writing } = await three();
    writing.exec("UPDATE anybroker_outbox SET state = 4, ends_at = 1");
    writing.exec(`UPDATE anybroker_outbox SET ${change} WHERE message_id = 'm-0'`);
    const listed = await store.listQuarantined({ limit: 10 });
    expect(listed.map(({ id }) => id)).toEqual(["m-0", "m-1", "m-2"]);
    expect(await store.health()).toMatchObject({ quarantined: 3 });
  },
);

test.each(["created_at", "due_at"])(
  "times that JavaScript cannot hold do not keep the health back: %s",
  async (time) => {
    const { store, writing } = await three();
    for (const far of ["9223372036854775807", "-9223372036854775808"]) {
      writing.exec(`UPDATE anybroker_outbox SET ${time} = ${far} WHERE message_id = 'm-0'`);
      writing.exec(`UPDATE anybroker_outbox SET state = 7 WHERE message_id = 'm-1'`);
      expect(await store.health()).toMatchObject({ unsent: 2 });
    }
  },
);

test("tables without a noted version are a conflict that says what to do", async () => {
  const { store, writing } = await three();
  const conflict = { code: "conflict", message: expect.stringContaining("no version is noted") };
  writing.exec("DELETE FROM anybroker_outbox_versions");
  await expect(store.migrate()).rejects.toMatchObject(conflict);
  writing.exec("DROP TABLE anybroker_outbox_versions");
  await expect(store.migrate()).rejects.toMatchObject(conflict);
});

test("a row that a trigger keeps from being removed is sent once, and quarantined", async () => {
  const { store, writing } = await three();
  writing.exec(`CREATE TRIGGER keep BEFORE DELETE ON anybroker_outbox WHEN OLD.message_id = 'm-0'
    BEGIN SELECT RAISE(IGNORE); END`);
  const broker = createBroker(memory());
  const handled: number[] = [];
  broker.consume(queue<{ n: number }>("numbers"), ({ n }) => void handled.push(n));
  await broker.start();
  const relay = createRelay({ store, broker, clean: false, pollMs: 50 });
  await relay.start();
  await expect.poll(() => relay.status(), { timeout: 240_000 }).toMatchObject({ sent: 3, held: 0 });
  // Its lease is over.
  writing.exec("UPDATE anybroker_outbox SET ends_at = 0");
  await expect.poll(() => store.health(), { timeout: 240_000 }).toMatchObject({ unsent: 0, quarantined: 1 });
  await relay.stop();
  await broker.stop();
  expect(handled.sort()).toEqual([0, 1, 2]);
  const [row] = await store.listQuarantined({ limit: 10 });
  expect(row).toMatchObject({ id: "m-0", error: { code: "conflict" } });
});
