import { describe } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { backpressureCases } from "./cases.ts";

describe("backpressure on the in-process broker", () => {
  const space = memorySpace();
  backpressureCases(() => ({ namePrefix: "", adapter: () => memory({ space }) }));
});
