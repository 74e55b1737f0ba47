import { describe } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { relayCases } from "./relay-cases.ts";
import { sqliteSource } from "./relay-sources.ts";

describe("relays from SQLite to the in-process broker", () => {
  const space = memorySpace();
  relayCases({ name: "memory", adapter: () => memory({ space }) }, sqliteSource);
});
