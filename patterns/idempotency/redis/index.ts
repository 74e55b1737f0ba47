export type { IoredisClient, NodeRedisClient, NodeRedisScriptOptions } from "./store.ts";
export { type RedisIdempotencyStoreOptions, redisIdempotencyStore } from "./store.ts";
