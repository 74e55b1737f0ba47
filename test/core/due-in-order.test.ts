import { expect, test } from "vitest";
import type { InFlightDelivery } from "../../core/consume/in-flight.ts";
import { precheck } from "../../core/consume/run-handler.ts";
import { HEADER } from "../../core/system-headers.ts";

test("a due time of another sender delays nothing in order, where it would keep its place", () => {
  const held = { incoming: { headers: { [HEADER.dueAt]: "6000000000000000" } } } as unknown as InFlightDelivery;
  expect(precheck(held, 1_000, true)).toBeUndefined();
  expect(precheck(held, 1_000, false)).toMatchObject({ kind: "early" });
});
