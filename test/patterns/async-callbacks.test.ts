import type { StandardSchemaV1 } from "@standard-schema/spec";
import { type Codec, createBroker, jsonCodec, queue } from "anybroker";
import { admitByDepth, backlog, circuitBreaker, controlIntake } from "anybroker/backpressure";
import { idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import { memory } from "anybroker/memory";
import { memoryMigrationStore, migration } from "anybroker/migration";
import { createOutbox } from "anybroker/outbox";
import { sqliteOutbox } from "anybroker/outbox/sqlite";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { newDatabase, openDatabase } from "./outbox/sqlite/databases.ts";

// Plain JavaScript can give an asynchronous function where a plain one is asked for. Its rejection must not end the process.
const rejects = (async () => {
  throw new Error("of an asynchronous callback");
}) as never;

describe("an asynchronous callback that rejects", () => {
  const unhandled: unknown[] = [];
  const keep = (reason: unknown): void => void unhandled.push(reason);
  beforeAll(() => void process.on("unhandledRejection", keep));
  afterAll(async () => {
    // Node tells of a rejection when the microtasks are done.
    await new Promise(setImmediate);
    process.off("unhandledRejection", keep);
    expect(unhandled).toEqual([]);
  });

  const work = queue<{ n: number }>("work");
  const deadLetterOf = async (prepare: (broker: ReturnType<typeof createBroker>) => void): Promise<unknown> => {
    const dead = Promise.withResolvers<unknown>();
    const broker = createBroker(memory(), {
      onEvent: (event) => event.type === "dead-lettered" && dead.resolve(event.error),
    });
    onTestFinished(() => broker.stop());
    prepare(broker);
    await broker.start();
    await broker.send(work, { n: 1 });
    return dead.promise;
  };

  test("as the key of idempotent() is a failed attempt", async () => {
    const use = [idempotent<{ n: number }>(memoryIdempotencyStore(), { key: rejects })];
    const error = await deadLetterOf((broker) => broker.consume(work, () => {}, { use, retry: { attempts: 1 } }));
    expect(error).toMatchObject({ code: "invalid", message: expect.stringContaining("idempotent { key }") });
  });

  test("as the value of a schema is refused at the send, and is a dead letter on arrival", async () => {
    const schema: StandardSchemaV1<{ n: number }> = {
      "~standard": { version: 1, vendor: "test", validate: () => ({ value: (rejects as () => never)() }) },
    };
    const checked = queue("work", { schema });
    const error = await deadLetterOf((broker) => broker.consume(checked, () => {}, { retry: { attempts: 1 } }));
    expect(error).toMatchObject({ code: "invalid" });
    const broker = createBroker(memory(), { destinations: [checked] });
    onTestFinished(() => broker.stop());
    await broker.start();
    await expect(broker.send(checked, { n: 1 })).rejects.toMatchObject({ code: "invalid" });
  });

  test("as isOutage of a circuit breaker tells of no outage", async () => {
    const error = await deadLetterOf((broker) =>
      controlIntake([circuitBreaker({ isOutage: rejects })], (use) =>
        broker.consume(
          work,
          () => {
            throw new Error("of the message");
          },
          { use, retry: { attempts: 1 } },
        ),
      ),
    );
    expect(error).toMatchObject({ message: "of the message" });
  });

  test("as headers of an outbox is refused", async () => {
    const { file, remove } = newDatabase();
    onTestFinished(remove);
    const store = sqliteOutbox(() => openDatabase(file));
    await store.migrate();
    const writing = openDatabase(file);
    const outbox = createOutbox({ store, broker: createBroker(memory()), headers: rejects });
    const sending = Promise.resolve().then(() => outbox.send(writing, work, { n: 1 }));
    await expect(sending).rejects.toMatchObject({ code: "invalid" });
    writing.close();
    await store.close();
  });

  test("as the key of a destination that moves is refused", async () => {
    const keyed = queue("keyed", { key: rejects });
    const moving = migration({
      from: memory(),
      to: memory(),
      destinations: [keyed],
      state: memoryMigrationStore(),
      idempotency: "waived",
    });
    onTestFinished(() => moving.stop());
    await moving.start();
    await expect(moving.send(keyed, {})).rejects.toMatchObject({ code: "invalid" });
  });

  test("as keeps of a codec, or as toJSON of a body, says nothing", async () => {
    const codec: Codec = { ...jsonCodec(), keeps: rejects };
    const kept = queue("kept", { codec, schema: z.object({ n: z.number() }) });
    const broker = createBroker(memory(), { destinations: [kept, work] });
    onTestFinished(() => broker.stop());
    await broker.start();
    await broker.send(kept, { n: 1 });
    await expect(broker.send(work, { toJSON: rejects } as never)).rejects.toMatchObject({ code: "invalid" });
  });

  test.each([
    ["rejects", rejects],
    [
      "throws",
      () => {
        throw new Error("no depth");
      },
    ],
    ["answers at once", () => ({ ready: 0 })],
    ["answers nothing", async () => undefined],
  ])("as depth of a limit that %s lets messages pass", async (_, depth) => {
    const broker = createBroker(memory(), { destinations: [work] });
    onTestFinished(() => broker.stop());
    await broker.start();
    const source = {
      depth: depth as never,
      status: () => broker.status(),
      send: broker.send.bind(broker),
      publish: broker.publish.bind(broker),
      sendMany: broker.sendMany.bind(broker),
      publishMany: broker.publishMany.bind(broker),
    };
    await admitByDepth(source, { limits: [{ destination: work, maxDepth: 10 }], pollMs: 1 }).send(work, { n: 1 });
  });

  test("as consumers of a backlog is refused", async () => {
    const broker = createBroker(memory());
    onTestFinished(() => broker.stop());
    const meter = backlog(broker, work, { consumers: rejects, windowMs: 1_000, targetDelayMs: 100 });
    broker.consume(work, () => {}, { use: [meter.middleware] });
    await broker.start();
    await expect
      .poll(() => meter.read().catch((error: unknown) => error), { timeout: 240_000, interval: 200 })
      .toMatchObject({ code: "invalid", message: expect.stringContaining("backlog { consumers }") });
  });
});
