export type { IdempotencyEvent, IdempotencyEventSource, StoreCall } from "./events.ts";
export { idempotent } from "./idempotent.ts";
export { type MemoryIdempotencyStoreOptions, memoryIdempotencyStore } from "./memory-store.ts";
export type { CleanOptions, IdempotentOptions } from "./options.ts";
export { type ClaimResult, type IdempotencyStore, LONGEST_KEY } from "./store.ts";
