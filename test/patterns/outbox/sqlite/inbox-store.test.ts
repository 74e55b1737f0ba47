import { afterAll, describe, test } from "vitest";
import { inboxConformance } from "../../../../conformance/outbox/index.ts";
import { type InboxToOpen, newDatabase, openDatabase, openInbox } from "./databases.ts";

const { file, remove } = newDatabase();
const mine = openDatabase(file);
const state = { tables: 0 };
afterAll(() => {
  mine.close();
  remove();
});

inboxConformance(
  {
    name: "sqlite",
    async place() {
      const place: InboxToOpen = { file, table: `inbox_${state.tables++}` };
      mine.exec("DROP TABLE IF EXISTS effects; CREATE TABLE effects (effect TEXT NOT NULL) STRICT");
      return {
        open: () => openInbox(place),
        effects: async () =>
          mine
            .prepare("SELECT effect FROM effects")
            .all()
            .map(({ effect }) => String(effect)),
        processes: { module: new URL("databases.ts", import.meta.url).href, options: place },
        remove: async () => {},
      };
    },
    commitFromWithin: async (transaction) => transaction.exec("COMMIT"),
    beginFromWithin: async (transaction) => transaction.exec("BEGIN IMMEDIATE"),
    breakFromWithin: async (transaction) => transaction.close(),
    withoutDoom: "a statement that fails takes back only itself",
    outage: {
      begin: async () => mine.exec("BEGIN IMMEDIATE"),
      end: async () => {
        if (mine.isTransaction) mine.exec("COMMIT");
      },
    },
  },
  { describe, test, afterAll },
);
