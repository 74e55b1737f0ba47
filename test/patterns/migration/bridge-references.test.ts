import { type Adapter, MessagingError, queue } from "anybroker";
import type { IncomingMessage } from "anybroker/adapter";
import { memory } from "anybroker/memory";
import { bridge } from "anybroker/migration";
import { expect, test } from "vitest";
import { delegate } from "../../../conformance/decorators/delegate.ts";
import { outgoing } from "../../../conformance/direct-adapter.ts";
import { internalsOf } from "../../../core/broker-internals.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { started } from "./brokers.ts";

const orders = queue<{ n: number }>("orders");
const dead = { kind: "dead-letters", of: { kind: "queue", name: "orders" } } as const;

function original(id: string, headers: Record<string, string> = {}): IncomingMessage {
  return {
    token: undefined,
    id,
    key: "k",
    routingKey: undefined,
    headers,
    body: Buffer.from(`the whole of ${id}`),
    contentType: "text/plain",
    redeliveries: 0,
    native: undefined,
  };
}

/** A broker with dead letters that refer to messages, by where these are stored. */
async function referring(originals: ReadonlyMap<string, readonly IncomingMessage[] | MessagingError>) {
  let reading = 0;
  let most = 0;
  const adapter = delegate(memory(), {
    async resolve(_, { headers }) {
      most = Math.max(most, ++reading);
      await new Promise((resolve) => setImmediate(resolve));
      reading--;
      const found = originals.get(headers[HEADER.deadReference] ?? "");
      if (found === undefined) throw new MessagingError("not-found", "gone");
      if (found instanceof MessagingError) throw found;
      return found;
    },
  });
  const from = await started(adapter, [orders]);
  const { sendCopy } = internalsOf(from, "test");
  const bury = async (id: string, place: string): Promise<void> => {
    const headers = { [HEADER.deadReference]: place, [HEADER.deadReason]: "attempts", tenant: "acme" };
    await sendCopy(dead, false, outgoing({ id, headers, body: Buffer.from("a reference") }));
  };
  return { from, bury, most: () => most };
}

async function lettersOf(broker: Parameters<typeof internalsOf>[0]): Promise<readonly IncomingMessage[]> {
  const letters: IncomingMessage[] = [];
  for await (const batch of internalsOf(broker, "test").adapter.browse?.(dead) ?? []) letters.push(...batch);
  return letters;
}

test("a dead letter that refers to a message is moved as that message, one at a time", async () => {
  const originals = new Map<string, readonly IncomingMessage[]>();
  for (let n = 0; n < 5; n++) originals.set(`log/0/${n}`, [original(`m-${n}`, { color: "red" })]);
  originals.set("log/0/5-6", [original("m-5"), original("m-6")]);
  const { from, bury, most } = await referring(originals);
  for (const [index, place] of [...originals.keys()].entries()) await bury(`m-${index}`, place);
  await internalsOf(from, "test").sendCopy(dead, false, outgoing({ id: "plain", headers: {} }));
  const to = await started(memory(), [orders]);
  const result = await bridge(from, to, { source: orders, content: "dead-letters" }).run();
  expect(result).toMatchObject({ end: "drained", moved: 7, left: 0 });
  expect(most()).toBe(1);
  const letters = (await lettersOf(to)).filter(({ id }) => id !== "plain");
  expect(letters.map(({ id }) => id)).toEqual(["m-0", "m-1", "m-2", "m-3", "m-4", "m-5", "m-6"]);
  for (const { id, body, headers, contentType, key } of letters) {
    expect([Buffer.from(body).toString(), contentType, key]).toEqual([`the whole of ${id}`, "text/plain", "k"]);
    expect({ ...headers }).toMatchObject({ [HEADER.deadReason]: "attempts", tenant: "acme" });
    expect(headers[HEADER.deadReference]).toBeUndefined();
  }
  expect(letters[0]?.headers.color).toBe("red");
});

test("what cannot be had stays where it is, and the others go", async () => {
  const { from, bury } = await referring(
    new Map<string, readonly IncomingMessage[] | MessagingError>([
      ["log/0/1", new MessagingError("unsupported", "nobody knows this codec")],
      ["log/0/2", [original("c")]],
    ]),
  );
  for (const [index, id] of ["a", "b", "c"].entries()) await bury(id, `log/0/${index}`);
  const to = await started(memory(), [orders]);
  const result = await bridge(from, to, { source: orders, content: "dead-letters" }).run();
  expect(result).toMatchObject({ end: "drained", moved: 1, left: 2 });
  expect(result.leftMessages.map(({ id, error }) => [id, error.code])).toEqual([
    ["a", "invalid"],
    ["b", "unsupported"],
  ]);
  expect((await lettersOf(from)).map(({ id }) => id)).toEqual(["a", "b"]);
  expect((await lettersOf(to)).map(({ id }) => id)).toEqual(["c"]);
});

test("what nobody could read stays where it is: a copy would be of nothing", async () => {
  const unreadable = new MessagingError("unsupported", "nobody knows this codec");
  const inner = memory();
  const adapter: Adapter = delegate(inner, {
    receive: (source, options, sink) =>
      inner.receive(source, options, {
        deliver: (batch) =>
          sink.deliver(
            batch.map((one) => (one.id === "b" ? { ...one, body: Buffer.alloc(0), unreadable } : one)) as never,
          ),
        lost: (...lost) => sink.lost(...lost),
        revoke: (tokens) => sink.revoke(tokens),
        stalled: (cause) => sink.stalled(cause),
        flowing: () => sink.flowing(),
        filtered: (count) => sink.filtered(count),
      }),
  });
  const from = await started(adapter, [orders]);
  for (const id of ["a", "b", "c"]) await from.send(orders, { n: 1 }, { id });
  const to = await started(memory(), [orders]);
  const result = await bridge(from, to, { source: orders }).run();
  expect(result).toMatchObject({ end: "drained", moved: 2, left: 1, leftMessages: [{ id: "b", error: unreadable }] });
  expect(await from.depth(orders)).toMatchObject({ ready: 1 });
  expect(await to.depth(orders)).toMatchObject({ ready: 2 });
});
