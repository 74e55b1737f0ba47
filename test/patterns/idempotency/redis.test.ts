import { expect, test } from "vitest";
import { type NodeRedisClient, redisIdempotencyStore } from "../../../patterns/idempotency/redis-store.ts";

function clientThat(answer: () => Promise<unknown>): NodeRedisClient {
  return { evalSha: answer, eval: () => expect.unreachable() };
}

test("wrong options are refused", () => {
  const store = (options: object) => () =>
    redisIdempotencyStore(
      clientThat(async () => 0),
      options,
    );
  expect(store({ keyPrefix: "" })).toThrow("{ keyPrefix }");
  expect(store({ timeoutMs: 1.5 })).toThrow("{ timeoutMs }");
  expect(store({ prefix: "x" })).toThrow('no option "prefix"');
});

test("a server that does not answer, or refuses, is a call that fails in its time", async () => {
  const silent = redisIdempotencyStore(
    clientThat(() => new Promise(() => {})),
    { timeoutMs: 10 },
  );
  await expect(silent.claim("key", 1)).rejects.toMatchObject({ code: "unreachable", cause: { code: "timeout" } });
  const replies: [string, string][] = [
    ["READONLY You can't write against a read only replica.", "unreachable"],
    ["NOAUTH Authentication required.", "unauthorized"],
    ["whatever else", "unreachable"],
  ];
  for (const [reply, code] of replies) {
    const refusing = redisIdempotencyStore(clientThat(() => Promise.reject(new Error(reply))));
    await expect(refusing.renew("key", "token", 1)).rejects.toMatchObject({ code, cause: { message: reply } });
  }
});

test("numbers may come as texts, as ioredis gives them if told to", async () => {
  expect(await redisIdempotencyStore(clientThat(async () => "-1")).claim("key", 1)).toMatchObject({
    status: "claimed",
  });
  expect(await redisIdempotencyStore(clientThat(async () => 12)).claim("key", 1)).toEqual({
    status: "busy",
    remainingMs: 12,
  });
});
