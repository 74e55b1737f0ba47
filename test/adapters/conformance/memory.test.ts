import { afterAll, describe, test } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { conformance } from "../../../conformance/index.ts";

const runner = { describe: describe.concurrent, test, afterAll };
const noNative = "the messages are the adapter's own; there is no client library";

const space = memorySpace();
conformance({ name: "memory", adapter: () => memory({ space }), noNative }, runner);

const leasing = memorySpace();
conformance(
  { name: "memory with leases", adapter: () => memory({ space: leasing, leaseMs: 10_000 }), noNative },
  runner,
);
