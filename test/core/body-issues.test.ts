import { inspect } from "node:util";
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { type } from "arktype";
import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { memory } from "../../adapters/memory/index.ts";
import type { Codec } from "../../core/codec.ts";
import { createBroker } from "../../core/create-broker.ts";
import { queue } from "../../core/destination.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";

const CANARY = "canary-77ab";

async function refusalOf(schema: StandardSchemaV1, body: unknown): Promise<MessagingError> {
  const broker = createBroker(memory());
  await broker.start();
  try {
    return await broker.send(queue("orders", { schema }), body).then(
      () => expect.unreachable("it was sent"),
      (error) => error,
    );
  } finally {
    await broker.stop();
  }
}

/** A schema that says one thing, whatever it is shown. */
const saying = (message: unknown, more: object = {}): StandardSchemaV1 => ({
  "~standard": {
    version: 1,
    vendor: "test",
    validate: () => ({ issues: [{ message, path: ["total"], ...more } as StandardSchemaV1.Issue] }),
  },
});

describe("what is wrong with a body", () => {
  const wrong = { total: 4711, email: CANARY };

  it.each<[string, StandardSchemaV1, readonly (string | undefined)[]]>([
    ["zod", z.object({ total: z.string("The total is a text"), email: z.email() }), ["invalid_type", "invalid_format"]],
    [
      "valibot",
      v.object({ total: v.string("The total is a text"), email: v.pipe(v.string(), v.email("No address")) }),
      ["string", "email"],
    ],
    ["arktype", type({ total: "string", email: "string.email" }), ["domain", "pattern"]],
  ])("is told by %s with path and code, and without the body", async (_, schema, codes) => {
    const error = await refusalOf(schema, wrong);
    expect(error.issues.map(({ path, code }) => [path, code]).sort()).toEqual(
      [
        [["total"], codes[0]],
        [["email"], codes[1]],
      ].sort(),
    );
    expect(JSON.stringify(error.issues)).not.toMatch(/canary|77ab|4711/);
  });

  it("is told with the message where that quotes nothing", async () => {
    const { issues } = await refusalOf(z.object({ total: z.string("The total is a text") }), wrong);
    expect(issues).toEqual([{ path: ["total"], code: "invalid_type", message: "The total is a text" }]);
  });

  it.each([
    ["a value", `not ${CANARY}`, wrong],
    ["a value of another property", "4711 is too much", { total: 1, budget: 4711 }],
    ["a short value", "7 is too much", { total: 7 }],
    ["a part of a value", 'not "canary-…"', wrong],
    ["a value in other letters", `not ${CANARY.toUpperCase()}`, wrong],
    ["a key that is data", "nobody knows ann@example.com", { total: 1, "ann@example.com": 1 }],
    ["a value nobody can see", "too small", { total: new Map([["a", "too small"]]) }],
    ["a value among too many", "too small", { total: Array(20_000).fill(1) }],
    ["a body that throws", "too small", new Proxy({}, { ownKeys: () => expect.unreachable() })],
  ])("is told without a message that may quote %s", async (_, message, body) => {
    const { issues } = await refusalOf(saying(message), body);
    expect(issues).toEqual([{ path: ["total"], code: undefined, message: undefined }]);
  });

  it.each([
    ["a message that is no text", saying(Symbol("s"))],
    ["a message without end", saying("no good ".repeat(1_000))],
    ["a code that is a sentence", saying(undefined, { code: `the code is ${CANARY}` })],
    ["a code that is no text", saying(undefined, { code: {}, type: 7 })],
  ])("is told without %s", async (_, schema) => {
    const { issues } = await refusalOf(schema, { total: 1 });
    expect(issues).toEqual([{ path: ["total"], code: undefined, message: undefined }]);
  });

  it.each<[string, () => object]>([
    ["issues", () => ({ issues: Promise.reject(new Error(CANARY)) })],
    ["an issue", () => ({ issues: [Promise.reject(new Error(CANARY))] })],
    ["a path", () => ({ issues: [{ message: "no", path: Promise.reject(new Error(CANARY)) }] })],
    ["a part of a path", () => ({ issues: [{ message: "no", path: [Promise.reject(new Error(CANARY))] }] })],
    ["a key", () => ({ issues: [{ message: "no", path: [{ key: Promise.reject(new Error(CANARY)) }] }] })],
    ["a message", () => ({ issues: [{ message: Promise.reject(new Error(CANARY)) }] })],
    ["the last of many", () => ({ issues: [...Array(99).fill({}), { message: Promise.reject(new Error(CANARY)) }] })],
    [
      "a message of a getter",
      () => ({
        issues: [
          {
            get message() {
              return Promise.reject(new Error(CANARY));
            },
          },
        ],
      }),
    ],
    ["a code", () => ({ issues: [{ code: Promise.reject(new Error(CANARY)) }] })],
  ])("is told where a schema gives a promise that is rejected for %s", async (_, result) => {
    const unhandled: unknown[] = [];
    const listener = (reason: unknown): void => void unhandled.push(reason);
    process.on("unhandledRejection", listener);
    try {
      const validate = result as StandardSchemaV1["~standard"]["validate"];
      const error = await refusalOf({ "~standard": { version: 1, vendor: "test", validate } }, { total: 1 });
      expect(error.message).not.toContain(CANARY);
      await new Promise((resolve) => setTimeout(resolve, 5));
    } finally {
      process.off("unhandledRejection", listener);
    }
    expect(unhandled).toEqual([]);
  });

  it("is told of the first fifty, and by paths that hold no data", async () => {
    const { issues, message } = await refusalOf(z.record(z.string(), z.string()), {
      ...Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`${index}@example.com`, 1])),
    });
    expect(issues).toHaveLength(50);
    expect(new Set(issues.flatMap(({ path }) => path))).toEqual(new Set(["[key]"]));
    expect(message).toContain("and 195 more");
  });

  it("is there as the schema said it, where no logger finds it", async () => {
    const error = await refusalOf(saying(`not ${CANARY}`), wrong);
    expect(error.rawIssues).toEqual([{ message: `not ${CANARY}`, path: ["total"] }]);
    expect(Object.keys(error)).not.toContain("rawIssues");
    const shown = [inspect(error, { showHidden: true, depth: 9 }), JSON.stringify(error), JSON.stringify({ ...error })];
    for (const text of shown) expect(text).not.toContain(CANARY);
  });

  it("is told to each of many for itself", async () => {
    const orders = queue("orders", { schema: z.object({ id: z.string() }) });
    const broker = createBroker(memory(), { destinations: [orders] });
    await broker.start();
    const entries = [{ body: { id: "o-1" } }, { body: { id: 1 } as never }];
    await expect(broker.sendMany(orders, entries)).rejects.toMatchObject({
      outcomes: [{ status: "confirmed" }, { status: "failed", error: { issues: [{ path: ["id"] }] } }],
    });
    await broker.stop();
  });

  it("is told to whoever watches the consumer", async () => {
    const events: BrokerEvent[] = [];
    const broker = createBroker(memory(), { onEvent: (event) => events.push(event) });
    const codec: Codec = { contentType: "text/plain", encode: () => Buffer.from("1"), decode: () => wrong };
    const consumer = broker.consume(
      queue("orders", { schema: z.object({ total: z.string() }), codec: { ...codec, keeps: () => true } }),
      () => {},
    );
    await broker.start();
    await broker.send(queue<unknown>("orders"), wrong);
    await expect.poll(() => consumer.status().deadLettered).toBe(1);
    expect(events).toContainEqual(
      expect.objectContaining({
        type: "dead-lettered",
        error: expect.objectContaining({
          issues: [expect.objectContaining({ path: ["total"], code: "invalid_type" })],
        }),
      }),
    );
    await broker.stop();
  });

  it("is nothing where something else is wrong", async () => {
    const broker = createBroker(memory());
    await expect(broker.send(queue("orders"), 1)).rejects.toMatchObject({ issues: [], rawIssues: [] });
  });
});
