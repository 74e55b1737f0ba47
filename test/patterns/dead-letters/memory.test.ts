import { memory, memorySpace } from "../../../adapters/memory/index.ts";
import { withoutBrowse } from "./adapters.ts";
import { deadLettersSuite } from "./suite.ts";

const space = memorySpace();
deadLettersSuite("memory", () => ({ name: "memory", adapter: () => memory({ space }) }));

const taking = memorySpace();
deadLettersSuite("memory, where they have to be taken to be seen", () => ({
  name: "memory",
  adapter: () => withoutBrowse(memory({ space: taking })),
}));

const leasing = memorySpace();
deadLettersSuite("memory with leases, where they have to be taken to be seen", () => ({
  name: "memory with leases",
  adapter: () => withoutBrowse(memory({ space: leasing, leaseMs: 3_000 })),
}));
