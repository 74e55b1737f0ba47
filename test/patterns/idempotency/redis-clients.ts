import { Redis } from "ioredis";
import { createClient } from "redis";
import type { OpenStore } from "../../../conformance/idempotency/index.ts";
import { redisIdempotencyStore } from "../../../patterns/idempotency/redis-store.ts";

/** How a store is opened; travels as JSON. */
export interface RedisStoreOptions {
  readonly client: "ioredis" | "redis";
  readonly url: string;
  readonly keyPrefix: string;
}

/** Opens the store of a server, with a connection of its own; a process of the conformance suite does it too. */
export async function openStore({ client, url, keyPrefix }: RedisStoreOptions): Promise<OpenStore> {
  const opened = client === "ioredis" ? openIoredis(url) : await openNodeRedis(url);
  return { store: redisIdempotencyStore(opened.client, { keyPrefix, timeoutMs: 20_000 }), close: opened.close };
}

/** A client that connects by itself, and tells soon that it cannot. */
export function openIoredis(url: string) {
  const client = new Redis(url, { maxRetriesPerRequest: 1, retryStrategy: () => 200 });
  client.on("error", () => undefined);
  return { client, close: async () => client.disconnect() };
}

/** A client that is connected, and tells at once when it is not. */
export async function openNodeRedis(url: string) {
  const client = createClient({ url, disableOfflineQueue: true });
  client.on("error", () => undefined);
  await client.connect();
  return { client, close: async () => client.destroy() };
}
