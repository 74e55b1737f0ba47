import { describe } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { inboxConsumers } from "./inbox-cases.ts";
import { onSqlite } from "./inbox-databases.ts";

describe("an inbox behind the in-process broker", () => {
  const space = memorySpace();
  inboxConsumers({ name: "memory", adapter: () => memory({ space }) }, onSqlite);
});
