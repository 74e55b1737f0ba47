/** What the store needs of `ioredis`: its `Redis` and its `Cluster` fit as they are. */
export interface IoredisClient {
  evalsha(sha1: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>;
  eval(script: string, keyCount: number, ...keysAndArguments: string[]): Promise<unknown>;
}

/** What the store needs of `redis` (node-redis): its clients, pools and clusters fit as they are. */
export interface NodeRedisClient {
  evalSha(sha1: string, options: NodeRedisScriptOptions): Promise<unknown>;
  eval(script: string, options: NodeRedisScriptOptions): Promise<unknown>;
}

/** What a script of `redis` works with. */
export interface NodeRedisScriptOptions {
  keys: string[];
  arguments: string[];
}

/** Runs a script on one key, and resolves with its answer. */
export type RunScript = (script: Script, key: string, values: readonly string[]) => Promise<unknown>;

/** A script and what the server knows it by. */
export interface Script {
  readonly source: string;
  readonly sha1: string;
}

/** The one way in which both clients run a script: by its hash, and in full where the server does not know it yet. */
export function scriptRunner(client: IoredisClient | NodeRedisClient): RunScript {
  const { byHash, inFull } = "evalSha" in client ? ofNodeRedis(client) : ofIoredis(client);
  return async (script, key, values) => {
    try {
      return await byHash(script, key, values);
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith("NOSCRIPT")) throw error;
      return inFull(script, key, values);
    }
  };
}

interface BothWays {
  readonly byHash: RunScript;
  readonly inFull: RunScript;
}

function ofIoredis(client: IoredisClient): BothWays {
  return {
    byHash: ({ sha1 }, key, values) => client.evalsha(sha1, 1, key, ...values),
    inFull: ({ source }, key, values) => client.eval(source, 1, key, ...values),
  };
}

function ofNodeRedis(client: NodeRedisClient): BothWays {
  return {
    byHash: ({ sha1 }, key, values) => client.evalSha(sha1, { keys: [key], arguments: [...values] }),
    inFull: ({ source }, key, values) => client.eval(source, { keys: [key], arguments: [...values] }),
  };
}
