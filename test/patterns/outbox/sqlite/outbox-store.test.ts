import { afterAll, describe, test } from "vitest";
import { outboxConformance } from "../../../../conformance/outbox/outbox-conformance.ts";
import { newDatabase, type OutboxToOpen, openDatabase, openOutbox } from "./databases.ts";

const { file, remove } = newDatabase();
const mine = openDatabase(file);
const state = { tables: 0 };
afterAll(() => {
  mine.close();
  remove();
});

outboxConformance(
  {
    name: "sqlite",
    async place() {
      const table = `outbox_${state.tables++}`;
      const place: OutboxToOpen = { file, table, keepSentMs: 0, timeoutMs: 500 };
      return {
        open: ({ keepSentMs }) => openOutbox({ ...place, keepSentMs }),
        processes: { module: new URL("databases.ts", import.meta.url).href, options: place },
        remove: async () => mine.exec(`DROP TABLE ${table}; DROP TABLE ${table}_versions`),
      };
    },
    withoutLateCommits: "transactions that write exclude each other",
    outage: {
      answersReads: true,
      begin: async () => mine.exec("BEGIN IMMEDIATE"),
      end: async () => {
        if (mine.isTransaction) mine.exec("COMMIT");
      },
    },
  },
  { describe, test, afterAll },
);
