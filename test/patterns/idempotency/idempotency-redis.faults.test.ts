import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { type OpenStore, storeConformance } from "../../../conformance/idempotency/index.ts";
import { type NodeRedisClient, redisIdempotencyStore } from "../../../patterns/idempotency/redis-store.ts";
import { controlsOrNotRun, describeValkey } from "../../brokers/suite.ts";
import { withClient } from "../../brokers/valkey/await-valkey.ts";
import type { Namespace } from "../../brokers/valkey.ts";
import { consumersInOutages } from "./outage.ts";
import { openIoredis, openNodeRedis, openStore } from "./redis-clients.ts";

const LONG_MS = 600_000;

describeValkey("the Redis store", (broker) => {
  let place: Namespace;

  beforeAll(() => {
    place = broker.newNamespace();
  });

  afterAll(() => place.remove());

  const { controls } = broker;
  describe.each(["ioredis", "redis"] as const)("by %s", (client) => {
    const options = () => ({ client, url: broker.url, keyPrefix: place.keyPrefix });

    storeConformance(
      {
        name: `redis by ${client}`,
        open: () => openStore(options()),
        get processes() {
          return { module: new URL("redis-clients.ts", import.meta.url).href, options: options() };
        },
        ...(controls
          ? { outage: { begin: controls.kill, end: controls.start } }
          : { withoutOutage: "the server was given by URL, so it cannot be stopped" }),
        removesByItself: true,
        count: (prefix) =>
          withClient(broker.url, async (asking) => {
            const keys = new Set<string>();
            const pages = asking.scanIterator({ MATCH: `${place.keyPrefix}${prefix}*`, COUNT: 1_000 });
            for await (const page of pages) for (const key of page) keys.add(key);
            return keys.size;
          }),
      },
      { describe, test, afterAll },
    );

    consumersInOutages(broker, () => openStore(options()));

    async function withStore(action: (store: OpenStore["store"]) => Promise<void>): Promise<void> {
      const { store, close } = await openStore(options());
      try {
        await action(store);
      } finally {
        await close();
      }
    }

    it("answers a command that the client sends again by itself as the first time", async () => {
      const { client: once, close } = client === "ioredis" ? openIoredis(broker.url) : await openNodeRedis(broker.url);
      const again: NodeRedisClient = {
        evalSha: () => Promise.reject(new Error("NOSCRIPT")),
        eval: async (script, { keys, arguments: values }) => {
          const [key = ""] = keys;
          const send = () =>
            "evalSha" in once
              ? once.eval(script, { keys, arguments: values })
              : once.eval(script, keys.length, key, ...values);
          await send();
          return send();
        },
      };
      const store = redisIdempotencyStore(again, { keyPrefix: place.keyPrefix });
      const key = `${client}-again`;
      const result = await store.claim(key, LONG_MS);
      if (result.status !== "claimed") expect.fail(result.status);
      expect(await store.renew(key, result.token, LONG_MS)).toBe("renewed");
      expect(await store.complete(key, result.token, LONG_MS)).toBe("completed");
      await close();
    });

    it("goes on when the server has forgotten its scripts", () =>
      withStore(async (store) => {
        const key = `${client}-forgotten`;
        for (const expected of ["claimed", "busy"]) {
          await withClient(broker.url, (asking) => asking.scriptFlush());
          expect((await store.claim(key, LONG_MS)).status).toBe(expected);
        }
      }));

    it("answers within its time when the server is frozen, and gives a claim back whose answer came too late", async (context) => {
      const { pause, resume } = controlsOrNotRun(broker, context);
      await withStore(async (store) => {
        const key = `${client}-late`;
        await store.claim(`${client}-warm`, LONG_MS);
        await pause();
        try {
          await expect(store.claim(key, LONG_MS)).rejects.toMatchObject({
            code: "unreachable",
            cause: { code: "timeout" },
          });
        } finally {
          await resume();
        }
        const status = () => store.claim(key, LONG_MS).then((result) => result.status);
        await expect.poll(status, { timeout: 240_000 }).toBe("claimed");
      });
    });

    it("works with the rights that the documentation lists, and says what is missing, with no password in it", async () => {
      const user = `test-${randomBytes(6).toString("hex")}`;
      const canary = "s3cret-canary";
      const rights = ["+eval", "+evalsha", "+get", "+set", "+del", "+pttl", "+pexpire"];
      const login = [`>${canary}`, `~${place.keyPrefix}*`, "resetchannels", "-@all"];
      const setUser = (...rules: string[]) => withClient(broker.url, (asking) => asking.aclSetUser(user, rules));
      const as = (password: string) => broker.url.replace("redis://", `redis://${user}:${password}@`);
      const key = `${client}-rights`;
      try {
        await setUser("on", ...login);
        const opened = await openStore({ ...options(), url: as(canary) });
        await expect(opened.store.claim(key, LONG_MS)).rejects.toMatchObject({ code: "unauthorized" });
        await setUser(...rights);
        for (const end of ["release", "complete"] as const) {
          const result = await opened.store.claim(key, LONG_MS);
          if (result.status !== "claimed") expect.fail(result.status);
          expect(await opened.store.renew(key, result.token, LONG_MS)).toBe("renewed");
          expect(await opened.store[end](key, result.token, LONG_MS)).toMatch(/^(released|completed)$/);
        }
        await opened.close();
      } finally {
        await withClient(broker.url, (asking) => asking.aclDelUser(user));
      }
      // Only ioredis fails what waits with the reason why it cannot connect.
      if (client !== "ioredis") return;
      const refused = await openStore({ ...options(), url: as(canary) });
      const error: unknown = await refused.store.claim(key, LONG_MS).catch((reason) => reason);
      expect(error).toMatchObject({ code: "unauthorized" });
      expect(inspect(error, { depth: 10 })).not.toContain(canary);
      await refused.close();
    });

    it("leaves keys of others alone, and says so", () =>
      withStore(async (store) => {
        const key = `${client}-hash`;
        await withClient(broker.url, (asking) => asking.hSet(`${place.keyPrefix}${key}`, "a", "b"));
        await expect(store.claim(key, LONG_MS)).rejects.toMatchObject({ code: "refused" });
      }));
  });
});
