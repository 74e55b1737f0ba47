import { randomUUID } from "node:crypto";
import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { type Clock, MessagingError, systemClock } from "../../../core/index.ts";
import { ask } from "../../../core/stores.ts";
import type { ClaimResult, IdempotencyStore } from "../store.ts";
import { type IoredisClient, type NodeRedisClient, type RunScript, type Script, scriptRunner } from "./client.ts";
import { failure } from "./failure.ts";
import { CLAIM, COMPLETE, RELEASE, RENEW } from "./scripts.ts";

/** The options of {@link redisIdempotencyStore}. */
export interface RedisIdempotencyStoreOptions {
  /** What its keys on the server begin with. Default `anybroker:idempotency:`. */
  readonly keyPrefix?: string;
  /** Milliseconds after which a call that got no answer rejects with `unreachable`. Default 5,000. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 5_000;
const CLAIMED = -1;
const DONE = -2;

/**
 * A store in Redis or Valkey, by the `ioredis` or the `redis` client, with one script of one key to a call. Its time is
 * the server's, which also removes what has ended.
 *
 * It remembers as safely as the server does: what a crash or a failover takes with it runs again when a duplicate comes.
 * The client stays the caller's: connect it, listen to its `error` event and close it. A claim whose answer came too late
 * is released when it comes. Throws `invalid` for wrong options.
 */
export function redisIdempotencyStore(
  client: IoredisClient | NodeRedisClient,
  options: RedisIdempotencyStoreOptions = {},
): IdempotencyStore {
  checkOptions("redisIdempotencyStore", options, ["keyPrefix", "timeoutMs"]);
  const { keyPrefix = "anybroker:idempotency:", timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  checkInteger("redisIdempotencyStore { timeoutMs }", timeoutMs, 1);
  if (typeof keyPrefix !== "string" || keyPrefix === "") {
    throw new MessagingError("invalid", "redisIdempotencyStore { keyPrefix } takes a text that is not empty");
  }
  return new RedisStore(scriptRunner(client), keyPrefix, timeoutMs);
}

class RedisStore implements IdempotencyStore {
  readonly name = "redis";
  readonly #run: RunScript;
  readonly #keyPrefix: string;
  readonly #timeoutMs: number;
  readonly #clock: Clock = systemClock();

  constructor(run: RunScript, keyPrefix: string, timeoutMs: number) {
    this.#run = run;
    this.#keyPrefix = keyPrefix;
    this.#timeoutMs = timeoutMs;
  }

  async claim(key: string, leaseMs: number): Promise<ClaimResult> {
    const token = randomUUID();
    const late = (answer: number): void => {
      if (answer === CLAIMED) this.release(key, token).catch(() => undefined);
    };
    const answer = await this.#ask("take a claim", CLAIM, key, [token, milliseconds(leaseMs)], late);
    if (answer === CLAIMED) return { status: "claimed", token };
    return answer === DONE ? { status: "done" } : { status: "busy", remainingMs: answer };
  }

  async renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const answer = await this.#ask("renew a claim", RENEW, key, [token, milliseconds(leaseMs)]);
    return answer === 1 ? "renewed" : "lost";
  }

  async complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost"> {
    const answer = await this.#ask("take a completion", COMPLETE, key, [token, milliseconds(retentionMs)]);
    return answer === 1 ? "completed" : "lost";
  }

  async release(key: string, token: string): Promise<"released" | "lost"> {
    return (await this.#ask("take a release", RELEASE, key, [token])) === 1 ? "released" : "lost";
  }

  async clean(): Promise<number> {
    return 0;
  }

  async #ask(
    action: string,
    script: Script,
    key: string,
    values: readonly string[],
    late?: (answer: number) => void,
  ): Promise<number> {
    const call = async () => Number(await this.#run(script, `${this.#keyPrefix}${key}`, values));
    const answer = await ask("idempotency store", this.#clock, this.#timeoutMs, call, late);
    if ("value" in answer) return answer.value;
    throw failure(action, answer.error);
  }
}

/** The server takes whole milliseconds, and no lease is to end early. */
function milliseconds(value: number): string {
  return String(Math.max(Math.ceil(value), 1));
}
