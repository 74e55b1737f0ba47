import { afterAll, describe, expect, it, test } from "vitest";
import { storeConformance } from "../../../conformance/idempotency/index.ts";
import { memoryIdempotencyStore } from "../../../patterns/idempotency/index.ts";

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
    const keys = Array.from({ length: 9 }, (_, n) => `key-${n}`);
    for (const [n, key] of keys.entries()) {
      const result = await small.claim(key, 60_000);
      if (result.status === "claimed") await small.complete(key, result.token, 60_000);
      if (n % 4 === 3) expect(await small.clean(10)).toBe(0);
      const last = keys.slice(Math.max(0, n - 1), n + 1);
      const statuses = await Promise.all(["held", ...last].map((one) => small.claim(one, 60_000)));
      expect(statuses.map(({ status }) => status)).toEqual(["busy", ...last.map(() => "done")]);
    }
    for (const key of keys.slice(0, -2)) expect(await small.claim(key, 60_000)).toMatchObject({ status: "claimed" });
  });

  it("refuses wrong options", () => {
    expect(() => memoryIdempotencyStore({ maxKeys: 0 })).toThrow("memoryIdempotencyStore { maxKeys }");
    expect(() => memoryIdempotencyStore({ size: 1 } as object)).toThrow('no option "size"');
  });
});
