import { createHash, randomUUID } from "node:crypto";
import { checkInteger, checkOptions } from "../../core/checks.ts";
import { type Clock, systemClock } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { ask, type FailureReason, LOGIN_REFUSED, storeFailure } from "../../core/stores.ts";
import type { ClaimResult, IdempotencyStore } from "./store.ts";

/** Its name in messages. */
const STORE = "idempotency store";

const DEFAULT_TIMEOUT_MS = 5_000;
const CLAIMED = -1;
const DONE = -2;

/**
 * A store in Redis or Valkey, with the `ioredis` or the `redis` client, and one script with one key per call. It uses the
 * server's time, and the server removes ended records.
 *
 * It is as durable as the server: after a crash or a failover that loses a key, a duplicate runs again. The caller connects
 * and closes the client, and listens to its `error` event. The store releases a claim whose answer came too late. Throws
 * `invalid` for wrong options.
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

/** What the store needs of `ioredis`. Its `Redis` and `Cluster` fit. */
export interface IoredisClient {
  evalsha(sha1: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>;
  eval(script: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>;
}

/** What the store needs of `redis` (node-redis). Its clients, pools and clusters fit. */
export interface NodeRedisClient {
  evalSha(sha1: string, options: NodeRedisScriptOptions): Promise<unknown>;
  eval(script: string, options: NodeRedisScriptOptions): Promise<unknown>;
}

/** The keys and arguments of a script, for `redis`. */
export interface NodeRedisScriptOptions {
  keys: string[];
  arguments: string[];
}

/** The options of {@link redisIdempotencyStore}. */
export interface RedisIdempotencyStoreOptions {
  /** The prefix of its keys on the server. Default `anybroker:idempotency:`. */
  readonly keyPrefix?: string;
  /** Milliseconds after which a call without an answer rejects with `unreachable`. Default 5,000. */
  readonly timeoutMs?: number;
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
    const answer = await this.#ask("claim a key", CLAIM, key, [token, milliseconds(leaseMs)], late);
    if (answer === CLAIMED) return { status: "claimed", token };
    return answer === DONE ? { status: "done" } : { status: "busy", remainingMs: answer };
  }

  async renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const answer = await this.#ask("renew a claim", RENEW, key, [token, milliseconds(leaseMs)]);
    return answer === 1 ? "renewed" : "lost";
  }

  async complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost"> {
    const answer = await this.#ask("complete a claim", COMPLETE, key, [token, milliseconds(retentionMs)]);
    return answer === 1 ? "completed" : "lost";
  }

  async release(key: string, token: string): Promise<"released" | "lost"> {
    return (await this.#ask("release a claim", RELEASE, key, [token])) === 1 ? "released" : "lost";
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
    const answer = await ask(STORE, this.#clock, this.#timeoutMs, call, late);
    if ("value" in answer) return answer.value;
    throw failure(action, answer.error);
  }
}

/** Rounds up to whole milliseconds, which the server needs: no lease ends early. */
function milliseconds(value: number): string {
  return String(Math.max(Math.ceil(value), 1));
}

// A record is a string that expires: `c` (claimed) or `d` (done), and the token. All times are the server's. Clients resend
// a command whose answer was lost, so each script answers a second call with the same token as the first.

/** Returns -1 for claimed, -2 for done, or the milliseconds for which another claim holds the key. */
const CLAIM = script(`
local held = redis.call('GET', KEYS[1])
if held and held ~= 'c' .. ARGV[1] then
  if string.sub(held, 1, 1) == 'd' then return -2 end
  return math.max(redis.call('PTTL', KEYS[1]), 0)
end
redis.call('SET', KEYS[1], 'c' .. ARGV[1], 'PX', ARGV[2])
return -1`);

/** Returns 1, or 0 for lost. */
const RENEW = script(`
if redis.call('GET', KEYS[1]) ~= 'c' .. ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`);

/** Returns 1, or 0 for lost. */
const COMPLETE = script(`
local held = redis.call('GET', KEYS[1])
if held ~= 'c' .. ARGV[1] and held ~= 'd' .. ARGV[1] then return 0 end
redis.call('SET', KEYS[1], 'd' .. ARGV[1], 'PX', ARGV[2])
return 1`);

/** Returns 1, or 0 for lost. */
const RELEASE = script(`
if redis.call('GET', KEYS[1]) ~= 'c' .. ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`);

function script(source: string): Script {
  return { source, sha1: createHash("sha1").update(source).digest("hex") };
}

/** Runs a script on one key, and resolves with its answer. */
type RunScript = (script: Script, key: string, values: readonly string[]) => Promise<unknown>;

/** A script and its hash. */
interface Script {
  readonly source: string;
  readonly sha1: string;
}

/** Runs scripts with either client: by the hash, and in full if the server does not know the script. */
function scriptRunner(client: IoredisClient | NodeRedisClient): RunScript {
  const { byHash, inFull } = "evalSha" in client ? withNodeRedis(client) : withIoredis(client);
  return async (script, key, values) => {
    try {
      return await byHash(script, key, values);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
      return inFull(script, key, values);
    }
  };
}

function withIoredis(client: IoredisClient): { readonly byHash: RunScript; readonly inFull: RunScript } {
  return {
    byHash: ({ sha1 }, key, values) => client.evalsha(sha1, 1, key, ...values),
    inFull: ({ source }, key, values) => client.eval(source, 1, key, ...values),
  };
}

function withNodeRedis(client: NodeRedisClient): { readonly byHash: RunScript; readonly inFull: RunScript } {
  return {
    byHash: ({ sha1 }, key, values) => client.evalSha(sha1, { keys: [key], arguments: [...values] }),
    inFull: ({ source }, key, values) => client.eval(source, { keys: [key], arguments: [...values] }),
  };
}

/** By the first word of the server's error. */
const REASONS: Readonly<Record<string, FailureReason>> = {
  NOAUTH: LOGIN_REFUSED,
  WRONGPASS: LOGIN_REFUSED,
  NOPERM: { code: "unauthorized", advice: "give the user the rights that the documentation lists" },
  WRONGTYPE: { code: "refused", advice: "another program uses this key: remove it, or choose another keyPrefix" },
  READONLY: { code: "unreachable", advice: "the server is a replica: connect to the primary" },
  OOM: { code: "unreachable", advice: "the server has no memory left" },
};

/** Translates an error of the server. */
function failure(action: string, cause: unknown): MessagingError {
  const [word = ""] = cause instanceof Error ? cause.message.split(" ", 1) : [];
  return storeFailure(STORE, "Redis", action, REASONS[word], withoutLogin(cause));
}

/** ioredis rejects waiting calls with the error of its login, which has the password. */
function withoutLogin(cause: unknown): unknown {
  if (!(cause instanceof Error) || !("command" in cause)) return cause;
  const { command } = cause as { readonly command?: { readonly name?: unknown } };
  return /^eval/i.test(String(command?.name)) ? cause : new Error(cause.message);
}
