export { idempotent } from "./idempotent.ts";
export { type MemoryIdempotencyStoreOptions, memoryIdempotencyStore } from "./memory-store.ts";
export type {
  CleanOptions,
  IdempotencyEvent,
  IdempotencyEventSource,
  IdempotentOptions,
  StoreCall,
} from "./options.ts";
export { type ClaimResult, type IdempotencyStore, LONGEST_KEY } from "./store.ts";
