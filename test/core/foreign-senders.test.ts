import { describe, expect, it, test } from "vitest";
import { z } from "zod";
import type { ForeignProperties } from "../../core/adapter.ts";
import { bytesCodec } from "../../core/codec.ts";
import { deadLetter } from "../../core/delivery.ts";
import { type Queue, queue, type Tombstones } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { HEADER } from "../../core/system-headers.ts";
import { incoming } from "./recording-adapter.ts";
import { headers, refusingWorld } from "./refusing-world.ts";

const FOREIGN: ForeignProperties = { bytes: 100 };
const SENT_AT = 1_700_000_000_000;
/** As a first attempt that fails, then one that gives up. */
const twice = (attempt: number) => {
  if (attempt === 1) throw new Error("not yet");
  return deadLetter("enough");
};

describe("what came with a message of another sender", () => {
  it("goes with its retry and its dead letter, without a content type where it had none", async () => {
    const { broker, opened, sentTo, until, finish } = refusingWorld();
    broker.consume(queue("work"), (_, { attempt }) => twice(attempt));
    await finish(broker.start());
    opened().sink.deliver([incoming("1", { foreign: FOREIGN, contentType: undefined })]);
    await until("the retry", () => sentTo("queue").length === 1);
    const [retry] = sentTo("queue");
    expect(retry).toMatchObject({ foreign: FOREIGN, contentType: undefined });
    opened().sink.deliver([incoming("1", { ...retry, token: 2 })]);
    await until("the dead letter", () => sentTo("dead-letters").length === 1);
    expect(sentTo("dead-letters")[0]).toMatchObject({ foreign: FOREIGN, contentType: undefined });
    await finish(broker.stop());
  });

  it("is left out of a dead letter that is refused for its size, and named there", async () => {
    const { broker, adapter, opened, sentTo, until, finish } = refusingWorld();
    broker.consume(queue("work"), () => deadLetter("no"));
    await finish(broker.start());
    adapter.refusal = (_, { foreign }) =>
      foreign === undefined ? undefined : new MessagingError("too-large", "refused by the test");
    opened().sink.deliver([incoming("1", { foreign: { bytes: 10_000_000 }, headers: headers({ kept: "yes" }) })]);
    await until("the dead letter", () => sentTo("dead-letters").length === 2);
    const [, letter] = sentTo("dead-letters");
    expect(letter?.foreign).toBeUndefined();
    expect(letter?.headers).toMatchObject({ kept: "yes" });
    expect(letter?.headers[HEADER.cut]).toBe("the sender's own properties (10000000 bytes)");
    await finish(broker.stop());
  });

  it.for([
    ["what its sender or its broker says", SENT_AT, SENT_AT],
    ["the time of its receipt where nobody says it", undefined, undefined],
    ["the time of its receipt where it is said to be in the future", Number.MAX_SAFE_INTEGER / 2, undefined],
  ] as const)("firstPublishedAt is %s, over retries", async ([, sentAt, expected]) => {
    const { broker, time, opened, sentTo, until, pass, finish } = refusingWorld();
    const seen: number[] = [];
    broker.consume(queue("work"), (_, { firstPublishedAt, attempt }) => {
      seen.push(firstPublishedAt.getTime());
      return twice(attempt);
    });
    await finish(broker.start());
    opened().sink.deliver([incoming("foreign", { sentAt })]);
    await until("the retry", () => sentTo("queue").length === 1);
    await pass(60_000);
    opened().sink.deliver([incoming("foreign", { ...sentTo("queue")[0], token: 2, sentAt: time.now })]);
    await until("the dead letter", () => sentTo("dead-letters").length === 1);
    expect(seen).toHaveLength(2);
    expect(seen[1]).toBe(seen[0]);
    if (expected !== undefined) expect(seen[0]).toBe(expected);
    expect(sentTo("dead-letters")[0]?.headers[HEADER.publishedAt]).toBe(String(seen[0]));
    await finish(broker.stop());
  });

  it("in order, firstPublishedAt stays through attempts in place", async () => {
    const { broker, opened, sentTo, until, finish } = refusingWorld();
    const seen: number[] = [];
    broker.consume(queue("work", { ordered: true }), (_, { firstPublishedAt, attempt }) => {
      seen.push(firstPublishedAt.getTime());
      return twice(attempt);
    });
    await finish(broker.start());
    opened().sink.deliver([incoming("foreign")]);
    await until("the dead letter", () => sentTo("dead-letters").length === 1);
    expect(new Set(seen).size).toBe(1);
    expect(seen).toHaveLength(2);
    await finish(broker.stop());
  });

  it("a time to live of the broker's own ends its copies, and no dead letter", async () => {
    const { broker, clock, opened, sentTo, until, finish } = refusingWorld();
    broker.consume(queue("work"), (_, { attempt }) => twice(attempt));
    await finish(broker.start());
    const expiresAt = clock.now() + 3_600_000;
    opened().sink.deliver([incoming("1", { expiresAt })]);
    await until("the retry", () => sentTo("queue").length === 1);
    const [retry] = sentTo("queue");
    expect(retry?.headers[HEADER.expiresAt]).toBe(String(expiresAt));
    expect(retry?.ttlMs).toBeGreaterThan(0);
    opened().sink.deliver([incoming("1", { ...retry, token: 2 })]);
    await until("the dead letter", () => sentTo("dead-letters").length === 1);
    expect(sentTo("dead-letters")[0]).toMatchObject({ ttlMs: undefined });
    expect(sentTo("dead-letters")[0]?.headers[HEADER.expiresAt]).toBeUndefined();
    await finish(broker.stop());
  });
});

/** The error of the dead letter that a message becomes. */
async function errorOf(given: Parameters<typeof incoming>[1], of = queue<unknown>("work")): Promise<string> {
  const { broker, opened, sentTo, until, finish } = refusingWorld();
  broker.consume(of, () => {});
  await finish(broker.start());
  opened().sink.deliver([incoming("1", given)]);
  await until("the dead letter", () => sentTo("dead-letters").length === 1);
  await finish(broker.stop());
  const letter = sentTo("dead-letters")[0];
  expect(letter?.headers[HEADER.deadReason]).toBe("invalid");
  return letter?.headers[HEADER.deadError] ?? "";
}

const GZIP = Buffer.from([0x1f, 0x8b, 8, 0]);

test.for([
  ["a property of the broker", { body: GZIP, contentEncoding: "gzip" }, 'Its content-encoding is "gzip"'],
  ["a header", { body: GZIP, headers: headers({ "Content-Encoding": "br" }) }, 'Its content-encoding is "br"'],
  ["its first bytes", { body: GZIP, contentEncoding: "utf-8" }, "It begins as gzip does"],
] as const)("a body that is encoded is said to be, by %s", async ([, given, words]) => {
  const error = await errorOf(given);
  expect(error).toContain(words);
  expect(error).toContain("Give the destination a codec that decodes that first");
});

test.for([{ body: Buffer.from("no JSON"), contentEncoding: "utf-8" }, { body: Buffer.from("no JSON") }])(
  "one that is not is not: %o",
  async (given) => {
    expect(await errorOf(given)).toBe("the body cannot be decoded as application/json: the bytes are not valid JSON");
  },
);

test("an encoding says nothing where the body can be read, and is no text that a terminal obeys where it cannot", async () => {
  expect(await errorOf({ body: GZIP, contentEncoding: `\u001b[2J${"x".repeat(500)}` })).toMatch(/" \[2Jx{5,80}"/);
  const { broker, opened, until, finish } = refusingWorld();
  const got: unknown[] = [];
  broker.consume(queue("work"), (body) => void got.push(body));
  await finish(broker.start());
  opened().sink.deliver([incoming("1", { contentEncoding: "gzip" })]);
  await until("the message", () => got.length === 1);
  await finish(broker.stop());
});

describe("a tombstone", () => {
  const tombstone = { body: Buffer.alloc(0), tombstone: true };

  it("is a dead letter that says so, and what to do", async () => {
    const error = await errorOf(tombstone);
    expect(error).toMatch(/^it is a tombstone: .*\{ tombstones: "skip" \}.*"null"/);
  });

  /** What handlers are given. */
  async function handled(of: Queue<unknown>) {
    const { broker, opened, sentTo, until, finish } = refusingWorld();
    const got: unknown[] = [];
    const consumer = broker.consume(of, (body) => void got.push(body));
    await finish(broker.start());
    opened().sink.deliver([incoming("1", tombstone), incoming("2")]);
    await until("both to be settled", () => opened().settled.length === 2);
    expect(consumer.status()).toMatchObject({ succeeded: 2, deadLettered: 0 });
    expect(sentTo("dead-letters")).toEqual([]);
    await finish(broker.stop());
    return got;
  }

  it("is skipped by choice", async () => {
    expect(await handled(queue<unknown>("work", { tombstones: "skip" }))).toEqual([{}]);
  });

  it("is the body null by choice, behind the schema", async () => {
    expect(await handled(queue<unknown>("work", { tombstones: "null" }))).toEqual([null, {}]);
    const strict = queue("work", { tombstones: "null", schema: z.object({ n: z.number() }) });
    expect(await errorOf(tombstone, strict as never)).toContain("the schema refuses the body");
  });

  it("is no bytes where bodies are bytes", async () => {
    const got = await handled(queue<unknown>("work", { codec: bytesCodec }));
    expect(got.map((body) => Buffer.from(body as Uint8Array).toString())).toEqual(["", "{}"]);
  });

  it("is asked of no other codec, which might read no bytes as a body of defaults", async () => {
    const codec = { contentType: "application/x-protobuf", encode: () => Buffer.alloc(0), decode: () => ({ n: 0 }) };
    expect(await errorOf(tombstone, queue<unknown>("work", { codec }))).toContain("it is a tombstone");
  });

  it("has no other choices", () => {
    expect(() => queue("work", { tombstones: "keep" as Tombstones })).toThrow(
      'queue("work") { tombstones } takes "dead-letter", "skip" or "null", not keep',
    );
  });
});
