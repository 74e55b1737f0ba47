export {
  type CleanOptions,
  type IdempotencyEvent,
  type IdempotencyEventSource,
  type IdempotentOptions,
  idempotent,
  type StoreCall,
} from "./idempotent.ts";
export { type MemoryIdempotencyStoreOptions, memoryIdempotencyStore } from "./memory-store.ts";
export { type ClaimResult, type IdempotencyStore, LONGEST_KEY } from "./store.ts";
