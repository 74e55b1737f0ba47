import { describe } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { idempotentConsumers } from "./consumers.ts";

describe.concurrent("idempotent consumers on the in-process broker", () => {
  const space = memorySpace();
  idempotentConsumers({ name: "memory", adapter: () => memory({ space }) });
});
