import { queue } from "anybroker";
import { createOutbox, createRelay } from "anybroker/outbox";
import { sqliteOutbox } from "anybroker/outbox/sqlite";
import { testBroker } from "anybroker/testing";
import { expect, test } from "vitest";
import { newDatabase, openDatabase } from "../../patterns/outbox/sqlite/databases.ts";

const orders = queue<number>("orders");

test("idle waits until an outbox is empty, too, while its relay polls in the kit's time", async () => {
  const { file, remove } = newDatabase();
  const kit = testBroker();
  const store = sqliteOutbox(() => openDatabase(file));
  await store.migrate();
  kit.broker.consume(orders, () => {});
  await kit.broker.start();
  const relay = createRelay({ store, broker: kit.broker });
  const tx = openDatabase(file);
  try {
    await relay.start();
    tx.exec("BEGIN IMMEDIATE");
    await createOutbox({ store, broker: kit.broker }).send(tx, orders, 1, { delayMs: 0 });
    tx.exec("COMMIT");
    await kit.idle({ until: async () => (await store.health()).unsent === 0 });
    expect(kit.sent(orders).map(({ body }) => body)).toEqual([1]);
    expect(kit.consumed(orders)).toHaveLength(1);
  } finally {
    tx.close();
    await kit.clock.passUntil(relay.stop());
    await kit.close();
    await store.close();
    remove();
  }
});
