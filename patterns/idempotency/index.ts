export { type MemoryIdempotencyStoreOptions, memoryIdempotencyStore } from "./memory-store.ts";
export { type ClaimResult, type IdempotencyStore, LONGEST_KEY } from "./store.ts";
