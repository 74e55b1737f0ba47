import { expect, test } from "vitest";
import { precheck } from "../../core/engine/attempt.ts";
import type { InFlightDelivery } from "../../core/engine/in-flight-delivery.ts";
import { HEADER } from "../../core/system-headers.ts";

test("a due time of another sender delays nothing in order, where it would keep its place", () => {
  const held = { incoming: { headers: { [HEADER.dueAt]: "6000000000000000" } } } as unknown as InFlightDelivery;
  expect(precheck(held, 1_000, true)).toBeUndefined();
  expect(precheck(held, 1_000, false)).toMatchObject({ kind: "early" });
});
