import { afterAll, describe, expect, it, test } from "vitest";
import { memoryIdempotencyStore } from "../../../patterns/idempotency/index.ts";
import { storeConformance } from "../../conformance/idempotency/index.ts";

const store = memoryIdempotencyStore();
storeConformance(
  {
    name: "memory",
    open: () => ({ store, close: async () => {} }),
    withoutProcesses: "the keys are in the memory of one process",
    withoutOutage: "the keys are in the memory of their users",
  },
  { describe, test, afterAll },
);

describe("the memory store", () => {
  it("forgets what was done first when it has no room, and no claim", async () => {
    const small = memoryIdempotencyStore({ maxKeys: 2 });
    await small.claim("held", 60_000);
    for (const key of ["one", "two", "three"]) {
      const result = await small.claim(key, 60_000);
      if (result.status === "claimed") await small.complete(key, result.token, 60_000);
    }
    const statuses = await Promise.all(["held", "three", "two", "one"].map((key) => small.claim(key, 60_000)));
    expect(statuses.map(({ status }) => status)).toEqual(["busy", "done", "done", "claimed"]);
  });

  it("refuses wrong options", () => {
    expect(() => memoryIdempotencyStore({ maxKeys: 0 })).toThrow("memoryIdempotencyStore { maxKeys }");
    expect(() => memoryIdempotencyStore({ size: 1 } as object)).toThrow('no option "size"');
  });
});
