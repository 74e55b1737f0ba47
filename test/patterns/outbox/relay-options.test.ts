import { expect, test } from "vitest";
import { createRelay } from "../../../patterns/outbox/relay.ts";
import type { RelayOptions } from "../../../patterns/outbox/relay-options.ts";
import { RelayWorld } from "./relay-world.ts";

test.for<[string, Partial<Record<keyof RelayOptions | "batch", unknown>>]>([
  ["an option it does not know", { batch: 1 }],
  ["no broker", { broker: {} }],
  ["no store", { store: {} }],
  ["a batch of none", { batchSize: 0 }],
  ["half a byte", { maxBytes: 0.5 }],
  ["no poll", { pollMs: 0 }],
  ["a lease of none", { leaseMs: 0 }],
  ["another choice", { onQuarantine: "drop" }],
  ["a retry without attempts", { retry: { attempts: 0 } }],
  ["a store slower than the lease", { leaseMs: 3_000, storeTimeoutMs: 1_001 }],
  ["a cleaning of none", { clean: { limit: 0 } }],
  ["a cleaning of something else", { clean: { keepMs: 1 } }],
  ["an empty name", { name: "" }],
  ["an observer that is none", { onEvent: 1 }],
])("refuses %s", async ([, options]) => {
  const { broker } = await new RelayWorld().relay("a");
  const store = new RelayWorld().outbox;
  expect(() => createRelay({ store, broker })).not.toThrow();
  expect(() => createRelay({ store, broker, ...options } as RelayOptions)).toThrow(
    expect.objectContaining({ code: "invalid", message: expect.stringContaining("createRelay") }),
  );
});
