import { afterAll, describe, test } from "vitest";
import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { conformance } from "../../conformance/index.ts";

const space = memorySpace();
conformance(
  {
    name: "memory",
    adapter: () => memory({ space }),
    noNative: "the messages are the adapter's own; there is no client library",
  },
  { describe, test, afterAll },
);
