import { Redis } from "ioredis";
import { createClient } from "redis";
import { redisIdempotencyStore } from "../../../patterns/idempotency/redis/index.ts";
import type { OpenStore } from "../../conformance/idempotency/index.ts";

/** How a store is opened; travels as JSON. */
export interface RedisStoreOptions {
  readonly client: "ioredis" | "redis";
  readonly url: string;
  readonly keyPrefix: string;
}

/** As short as a slow machine allows: a client that cannot connect keeps its calls for later. */
const TIMEOUT_MS = 2_000;

/** Opens the store of a server, with a connection of its own; a process of the conformance suite does it too. */
export function openStore({ client, url, keyPrefix }: RedisStoreOptions): OpenStore {
  const opened = client === "ioredis" ? openIoredis(url) : openNodeRedis(url);
  return { store: redisIdempotencyStore(opened.client, { keyPrefix, timeoutMs: TIMEOUT_MS }), close: opened.close };
}

/** A client as its documentation makes it; it connects by itself. */
export function openIoredis(url: string) {
  const client = new Redis(url);
  client.on("error", () => undefined);
  return { client, close: async () => client.disconnect() };
}

/** A client as its documentation makes it, which tries to connect until it is closed. */
export function openNodeRedis(url: string) {
  const client = createClient({ url });
  client.on("error", () => undefined);
  client.connect().catch(() => undefined);
  return { client, close: async () => client.destroy() };
}
