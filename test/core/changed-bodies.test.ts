import type { StandardSchemaV1 } from "@standard-schema/spec";
import { type } from "arktype";
import * as v from "valibot";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { memory } from "../../adapters/memory/index.ts";
import { bytesCodec, type Codec } from "../../core/codec.ts";
import { createBroker } from "../../core/create-broker.ts";
import { queue } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { createOutbox, type OutboxStore } from "../../patterns/outbox/index.ts";
import { RecordingAdapter } from "./recording-adapter.ts";

const CANARY = "canary-77ab";

/** A codec of somebody else's, which says nothing of what it keeps. */
const silentCodec: Codec = {
  contentType: "application/json",
  encode: (body) => Buffer.from(JSON.stringify(body)),
  decode: (bytes) => JSON.parse(Buffer.from(bytes).toString()),
};

const asynchronous = (schema: StandardSchemaV1): StandardSchemaV1 => ({
  "~standard": { ...schema["~standard"], validate: async (value) => schema["~standard"].validate(value) },
});

const AT = new Date(0);
class Money {
  readonly cents = 4711;
}

/** Schemas that take a body, and would refuse what comes of it. */
const CHANGED: readonly (readonly [string, StandardSchemaV1, unknown, readonly (string | number)[]])[] = [
  ["a Date", z.object({ at: z.date(), secret: z.string() }), { at: AT, secret: CANARY }, ["at"]],
  ["a Date in a list", z.array(z.object({ at: z.date() })), [{ at: AT }], [0, "at"]],
  ["a Date, by an asynchronous schema", asynchronous(z.object({ at: z.date() })), { at: AT }, ["at"]],
  ["a Date, by valibot", v.object({ at: v.date() }), { at: AT }, ["at"]],
  ["a Date, by arktype", type({ at: "Date" }), { at: AT }, ["at"]],
  ["a URL", z.object({ link: z.instanceof(URL) }), { link: new URL(`https://${CANARY}/`) }, ["link"]],
  ["an instance of a class", z.object({ price: z.instanceof(Money) }), { price: new Money() }, ["price"]],
  ["a Map", z.object({ m: z.map(z.string(), z.string()) }), { m: new Map([["a", CANARY]]) }, ["m"]],
  ["a Set", z.object({ s: z.set(z.string()) }), { s: new Set([CANARY]) }, ["s"]],
  ["NaN", z.object({ n: z.nan() }), { n: Number.NaN }, ["n"]],
  ["a BigInt", z.object({ n: z.bigint() }), { n: 4711n }, ["n"]],
  ["a property that has to be there", type({ note: "string | undefined" }), { note: undefined }, ["note"]],
];

describe("a body that its codec would change", () => {
  const adapter = new RecordingAdapter();
  const broker = createBroker(adapter);
  beforeAll(() => broker.start());
  beforeEach(() => {
    adapter.handed.length = 0;
  });
  afterAll(() => broker.stop());

  it.each(CHANGED)("is refused before it is sent, with the place: %s", async (_, schema, body, path) => {
    const error = await broker.send(queue("orders", { schema }), body).then(String, (error: unknown) => error);
    expect(error).toBeInstanceOf(MessagingError);
    expect(error).toMatchObject({ code: "invalid", issues: [{ path }] });
    const { message, issues } = error as MessagingError;
    expect(message).toContain(`at ${path.join(".")}`);
    expect(JSON.stringify([message, issues])).not.toContain(CANARY);
    expect(JSON.stringify([message, issues])).not.toContain("4711");
    expect(adapter.handed).toEqual([]);
  });

  it("is refused by an outbox too", async () => {
    const inserted: unknown[] = [];
    const store = { insert: async (_: unknown, rows: unknown) => void inserted.push(rows) };
    const outbox = createOutbox({ broker, store: store as unknown as OutboxStore<undefined> });
    const orders = queue("orders", { schema: z.object({ at: z.date() }) });
    await expect(outbox.send(undefined, orders, { at: AT })).rejects.toMatchObject({ code: "invalid" });
    expect(inserted).toEqual([]);
  });

  it.each([
    ["a codec that says nothing", silentCodec, z.object({ at: z.date() }), { at: AT }],
    ["bytes", bytesCodec, z.instanceof(Buffer), Buffer.from("a")],
  ])("is refused with %s", async (_, codec, schema, body) => {
    const orders = queue("orders", { codec, schema: schema as StandardSchemaV1 });
    await expect(broker.send(orders, body)).rejects.toMatchObject({ code: "invalid" });
    expect(adapter.handed).toEqual([]);
  });

  it("is refused where the codec cannot read what it wrote", async () => {
    const decode = () => {
      throw new SyntaxError(CANARY);
    };
    const orders = queue("orders", { codec: { ...silentCodec, decode }, schema: z.object({ id: z.string() }) });
    const error: MessagingError = await broker.send(orders, { id: "o-1" }).then(String, (error) => error);
    expect(error).toMatchObject({ code: "invalid" });
    expect(error.message).toContain("cannot decode what it encoded");
    expect(error.message).not.toContain(CANARY);
    expect(adapter.handed).toEqual([]);
  });

  it("is sent where the schema takes what arrives as well", async () => {
    const schema = z.object({ at: z.coerce.date(), note: z.string().optional(), price: z.object({ cents: z.int() }) });
    const seen: unknown[] = [];
    const broker = createBroker(memory());
    const orders = queue("orders", { schema });
    broker.consume(orders, (body) => {
      seen.push(body);
    });
    await broker.start();
    await broker.send(orders, { at: AT, note: undefined, price: new Money() });
    await expect.poll(() => seen).toEqual([{ at: AT, price: { cents: 4711 } }]);
    await broker.stop();
  });

  it("is shown to the schema again only where its codec does not keep it", async () => {
    let calls = 0;
    const schema = z.object({ id: z.string(), at: z.coerce.date().optional() }).refine(() => ++calls > 0);
    const orders = queue("orders", { schema });
    await broker.send(orders, { id: "o-1" });
    expect(calls).toBe(1);
    await broker.send(orders, { id: "o-1", at: AT });
    expect(calls).toBe(3);
  });
});
