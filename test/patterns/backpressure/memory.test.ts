import { describe } from "vitest";
import { memory } from "../../../adapters/memory/index.ts";
import { backpressureCases } from "./cases.ts";

describe("backpressure on the in-process broker", () => {
  backpressureCases(() => ({ namePrefix: "", adapter: () => memory() }));
});
