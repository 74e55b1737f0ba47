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
  await expect.poll(() => relay.status(), { timeout: 60_000 }).toMatchObject({ outbox: { unsent: 0 } });
  await expect.poll(() => handled, { timeout: 60_000 }).toEqual([CHANGES.length]);
  await relay.stop();
  const quarantined = events.filter((event) => event.type === "quarantined");
  expect(quarantined.map(({ id }) => id).sort()).toEqual(CHANGES.map((_, n) => `m-${n}`));
  for (const { error } of quarantined) {
    expect(error).toMatchObject({ code: "invalid", message: expect.stringContaining("does not come back as it was") });
  }
  const listed = await store.listQuarantined({ limit: 100 });
  expect(listed.map(({ id }) => id).sort()).toEqual(CHANGES.map((_, n) => `m-${n}`));
  await broker.stop();
  await store.close();
});
