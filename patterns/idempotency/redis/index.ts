export type { IoredisClient, NodeRedisClient, NodeRedisScriptOptions } from "./client.ts";
export { type RedisIdempotencyStoreOptions, redisIdempotencyStore } from "./store.ts";
