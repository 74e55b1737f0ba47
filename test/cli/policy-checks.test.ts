import { expect, test } from "vitest";
import { policyChecks } from "../../cli/broker-statistics.ts";
import type { Adapter } from "../../core/adapter.ts";
import { queue } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";

async function statuses(policies: () => Promise<unknown>): Promise<readonly string[]> {
  const adapter = { name: "rabbitmq", policies } as unknown as Adapter;
  return (await policyChecks(adapter, [queue("orders")])).map(({ status }) => status);
}

test("policies that could not be compared are unknown, and none that can be asked for are too", async () => {
  const conflict = new MessagingError("conflict", "it sets max-length");
  const untold = new MessagingError("unsupported", "it is not known what it does");
  expect(await statuses(async () => ({ problems: [conflict], notices: [conflict, untold] }))).toEqual([
    "failed",
    "ok",
    "unknown",
  ]);
  const noApi = new MessagingError("unreachable", "answered what is no management API");
  expect(await statuses(() => Promise.reject(noApi))).toEqual(["unknown"]);
  expect(await statuses(async () => ({ problems: [], notices: [] }))).toEqual(["ok"]);
});
