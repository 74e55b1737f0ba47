import fc from "fast-check";
import { expect, test } from "vitest";
import { isMessagingError } from "../../core/errors.ts";
import { type Plan, planOf } from "../../patterns/dead-letters/plan.ts";
import { fuzzing } from "./runs.ts";

const PLAN: Plan = {
  run: "0190b6b4-0000-7000-8000-000000000000",
  action: "replay",
  source: "orders",
  filter: "all",
  plannedAt: "2026-11-01T00:00:00.000Z",
  count: 2,
  destinations: [{ destination: "orders", count: 2 }],
  refused: [{ why: "sent back 3 times already", count: 1, example: "abc" }],
  beyondLimit: 0,
  to: { address: { kind: "queue", name: "orders" }, ordered: false },
  by: "ann",
  rate: null,
  ramp: { first: 1, factor: 10, observeMs: 30_000, backlogMs: 600_000, tolerate: 0 },
  edit: [{ op: "replace", path: "/total", value: 1 }],
  groups: [{ group: "1f2ba8a7d0a5", errorClass: "TypeError", error: "no currency for order o-<n>", count: 2 }],
  entries: [
    { id: "a", messageId: "m-a" },
    { id: "b", messageId: "m-b" },
  ],
  held: false,
  complete: true,
  elsewhere: 0,
};

const anything = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom("../x", "/etc/passwd", "a\0b", "x\n", "__proto__", null, -1, 0.5, [null], [{}]),
);

/** A plan in which something stands otherwise. */
const changed = fc
  .array(fc.tuple(fc.constantFrom(...Object.keys(PLAN)), fc.option(anything, { nil: undefined })), { minLength: 1 })
  .map((changes) => JSON.parse(JSON.stringify({ ...PLAN, ...Object.fromEntries(changes) })) as unknown);

test("a plan is taken as it was kept", () => {
  expect(planOf(JSON.parse(JSON.stringify(PLAN)), "orders")).toEqual(PLAN);
});

test("what was kept as a plan is one that can be shown and run, or refused as invalid", () => {
  fc.assert(
    fc.property(fc.oneof(changed, fc.jsonValue()), (given) => {
      let plan: Plan;
      try {
        plan = planOf(given, "orders");
      } catch (error) {
        expect(isMessagingError(error, "invalid")).toBe(true);
        return;
      }
      expect(plan.run).toMatch(/^[\w-]+$/);
      expect(plan.entries.every(({ id, messageId }) => typeof id === "string" && typeof messageId === "string")).toBe(
        true,
      );
      expect(plan.destinations.every(({ destination, count }) => typeof destination === "string" && count >= 0)).toBe(
        true,
      );
      expect(plan.refused.every(({ why, count }) => typeof why === "string" && count >= 0)).toBe(true);
      const { address } = plan.to ?? PLAN.to ?? {};
      expect(Object.values(address ?? {}).every((name) => /^[\w.-]+$/.test(name))).toBe(true);
    }),
    fuzzing(),
  );
});
