import { expect, onTestFinished, test } from "vitest";
import { memory } from "../../../adapters/memory/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { createRelay } from "../../../patterns/outbox/index.ts";
import { sqliteInbox, sqliteOutbox } from "../../../patterns/outbox/sqlite/index.ts";
import { newDatabase, openDatabase } from "./sqlite/databases.ts";

test("a relay stops and stores close when they are disposed of", async () => {
  const { file, remove } = newDatabase();
  onTestFinished(remove);
  const open = () => openDatabase(file);
  const store = sqliteOutbox(open);
  await store.migrate();
  const broker = createBroker(memory(), { destinations: [] });
  const relay = createRelay({ store, broker });
  await relay.start();
  await relay[Symbol.asyncDispose]();
  expect(await relay.status()).toMatchObject({ state: "stopped" });
  await store[Symbol.asyncDispose]();
  await expect(store.health()).rejects.toMatchObject({ code: "closed" });
  const inbox = sqliteInbox(open);
  await inbox[Symbol.asyncDispose]();
  await expect(inbox.migrate()).rejects.toMatchObject({ code: "closed" });
});
