import type { MemoryOptions } from "../../adapters/memory/index.ts";
import { brokerUrl } from "./broker-url.ts";
import { elsewhere, integer } from "./parameters.ts";

/** `memory:`, the broker of this process. */
export const memoryUrl = brokerUrl<MemoryOptions>({
  name: "memory",
  schemes: ["memory"],
  form: "memory:",
  packages: [],
  parameters: {
    leaseMs: integer(1),
    maxMessages: integer(1),
    space: elsewhere("give { memory: { space } } to fromUrl; a space is an object of this process"),
    clock: elsewhere("give { memory: { clock } } to fromUrl; a clock is an object of this process"),
  },
  read({ hosts, path, username, password }, given, refuse) {
    if (`${hosts}${path}` !== "" || username !== undefined || password !== undefined) {
      throw refuse("takes no name, only options; brokers share messages by { memory: { space } }");
    }
    return given;
  },
  load: async () => (await import("../../adapters/memory/index.ts")).memory,
});
