import assert from "node:assert/strict";
import { bytesCodec } from "../../core/codec.ts";
import type { Delivery } from "../../core/delivery.ts";
import type { Queue } from "../../core/destination.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext } from "../context.ts";
import { holdConfirms } from "../decorators/hold-confirms.ts";
import { watch } from "../decorators/watch.ts";
import { drained, judge, judgeClean } from "../judge.ts";
import { mustSucceed, publish, send } from "../publishing.ts";
import { codeOf, failureOf } from "../refusals.ts";
import { confirmedIsStored } from "./confirm.ts";
import { foreignCase } from "./foreign.ts";

const LARGE_BYTES = 1024 * 1024;
/** Larger limits are not tested: such a body would fill the memory. */
const MOST_BYTES_TESTED = 256 * 1024 * 1024;
const TRACE = {
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  tracestate: "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
  baggage: "userId=alice,serverNode=DF%2028,isProduction=false",
};

/** Headers whose names are members of every plain object, and other unusual ones. */
function trapHeaders(): Record<string, string> {
  const headers: Record<string, string> = Object.create(null);
  headers.city = "Zürich – 東京 🐇";
  headers.empty = "";
  headers["x-Mixed_Case.1"] = "kept";
  for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) headers[name] = `plain ${name}`;
  return headers;
}

function sameHeaders(given: Record<string, string>, delivery: Delivery): void {
  const got = Object.entries(delivery.headers);
  const wanted = Object.entries(given);
  const sorted = (entries: [string, string][]): [string, string][] => entries.sort(([a], [b]) => (a < b ? -1 : 1));
  assert.deepEqual(sorted(got), sorted(wanted), `the headers of ${delivery.id}`);
}

async function roundTrip(context: CaseContext): Promise<void> {
  const every = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  const large = Buffer.alloc(Math.min(context.capabilities.maxMessageBytes, LARGE_BYTES));
  for (const [index] of large.entries()) large[index] = index % 251;
  const bodies = [new Uint8Array(), every, large];
  const bytes = context.queue<Uint8Array>("bytes", { codec: bytesCodec });
  const json = context.queue<unknown>("json");
  const { withoutTopics, withoutSupplementaryCharacters } = context.harness;
  const events = withoutTopics === undefined ? context.topic<unknown>("events") : undefined;
  const got = new Map<string, { body: unknown; delivery: Delivery }>();
  const record = (body: unknown, delivery: Delivery): void => void got.set(delivery.id, { body, delivery });
  const broker = await context.started({}, (one) => {
    one.consume(bytes, record);
    one.consume(json, record);
    if (events !== undefined) one.subscribe(events, "audit", record);
  });
  const before = Date.now();
  const rabbit = withoutSupplementaryCharacters === undefined ? "🐇" : "";
  if (withoutTopics !== undefined) context.note(`events were not tested: ${withoutTopics}`);
  if (rabbit === "") context.note(`bodies beyond U+FFFF were not tested: ${withoutSupplementaryCharacters}`);
  const values = [{ text: `Zürich "東京" ${rabbit}\n`, deep: [[1.5, null, true]] }, "", 0, null, []];
  const sent: { id: string; body: unknown; key: string | undefined; headers: Record<string, string> }[] = [];
  const note = (body: unknown, key?: string): (typeof sent)[number] => {
    const one = { id: context.id(), body, key, headers: sent.length % 2 === 0 ? trapHeaders() : {} };
    sent.push(one);
    return one;
  };
  const options = ({ id, key, headers }: (typeof sent)[number]) => ({
    id,
    headers,
    ...(key === undefined ? {} : { key }),
  });
  for (const body of bodies) mustSucceed(await send(context, broker, bytes, body, options(note(body, "key/ü 1"))));
  for (const body of values) mustSucceed(await send(context, broker, json, body, options(note(body))));
  if (events !== undefined) {
    for (const body of values) {
      mustSucceed(await publish(context, broker, events, ["audit"], body, options(note(body, "k"))));
    }
  }
  await judgeClean(context, broker, bytes, json);
  for (const { id, body, key, headers } of sent) {
    const delivered = got.get(id);
    assert.ok(delivered !== undefined, `${id} was not delivered`);
    if (body instanceof Uint8Array)
      assert.ok(Buffer.from(body).equals(delivered.body as Uint8Array), `the bytes of ${id}`);
    else assert.deepEqual(delivered.body, body);
    assert.equal(delivered.delivery.key, key, `the key of ${id}`);
    assert.equal(delivered.delivery.attempt, 1);
    sameHeaders(headers, delivered.delivery);
    const at = delivered.delivery.firstPublishedAt.getTime();
    assert.ok(at >= before && at <= Date.now(), `${id} was published at ${at}, not between ${before} and now`);
  }
  assert.equal(Object.hasOwn(Object.prototype, "plain __proto__"), false);
}

async function overTheLimit(context: CaseContext): Promise<void> {
  const { maxMessageBytes, maxHeaders, maxHeaderBytes } = context.capabilities;
  const bytes = context.queue<Uint8Array>("bytes", { codec: bytesCodec });
  const watched = holdConfirms(context.harness.adapter());
  watched.release();
  const broker = await context.started({}, (one) => one.consume(bytes, () => {}), watched.adapter);
  const small = Uint8Array.of(1);
  const refused = async (what: string, code: string, body: Uint8Array, headers: Record<string, string>) => {
    const failure = await send(context, broker, bytes, body, { headers });
    assert.equal(failure?.code, code, `${what}: ${failure?.message ?? "sent"}`);
  };
  if (maxMessageBytes < MOST_BYTES_TESTED) {
    const large = new Uint8Array(maxMessageBytes + 1);
    await refused("a body over the limit", "too-large", large, {});
    const ids = [context.id(), context.id(), context.id()];
    const [first = "", second = "", third = ""] = ids;
    for (const id of ids) context.ledger.attempted(id, [bytes.name]);
    const error = await failureOf(
      broker.sendMany(bytes, [
        { body: small, options: { id: first } },
        { body: large, options: { id: second } },
        { body: small, options: { id: third } },
      ]),
    );
    assert.equal(error?.code, "partly-failed");
    const ends = error?.outcomes.map((outcome) => (outcome.status === "confirmed" ? outcome.id : outcome.error.code));
    assert.deepEqual(ends, [first, "too-large", third]);
    for (const id of ids) context.ledger.ended(id, id === second ? "refused" : "confirmed");
  } else {
    context.note(`bodies of ${maxMessageBytes} bytes were not tested`);
  }
  if (maxHeaders < 100_000) {
    const many = Object.fromEntries(Array.from({ length: maxHeaders + 1 }, (_, index) => [`h${index}`, ""]));
    await refused("too many headers", "too-large", small, many);
  }
  if (maxHeaderBytes < MOST_BYTES_TESTED) {
    await refused("a header that is too large", "too-large", small, { h: "x".repeat(maxHeaderBytes) });
  }
  await refused("a header with the library's prefix", "invalid", small, { "anybroker-attempts": "7" });
  await judgeClean(context, broker, bytes);
  const stored = context.ledger.outcomes("confirmed");
  assert.equal(watched.handedOver.length, stored, "a refused message was given to the adapter");
}

async function missing(context: CaseContext): Promise<void> {
  const nowhere = context.queue("nowhere");
  const refusals: readonly string[] = ["not-found", "unroutable"];
  const sender = await context.started({ declare: "none", publish: { timeoutMs: context.patienceMs / 2 } });
  const failure = await send(context, sender, nowhere, { n: 1 });
  assert.ok(
    failure !== undefined && refusals.includes(failure.code),
    `sending ended as ${failure?.code ?? "confirmed"}`,
  );
  assert.ok(failure.message.includes(nowhere.name), `"${failure.message}" does not name ${nowhere.name}`);
  assert.equal(await codeOf("the depth of a missing queue", sender.depth(nowhere)), "not-found");
  for (const declare of ["verify", "none"] as const) {
    const consumer = context.broker({ declare });
    consumer.consume(nowhere, () => {});
    const error = await failureOf(consumer.start());
    const codes = error?.problems.map(({ code }) => code) ?? [];
    assert.ok(
      codes.includes("not-found"),
      `consuming with declare "${declare}": ${error?.code ?? "started"} [${codes}]`,
    );
  }
  assert.equal(
    await codeOf("the depth of a missing queue", sender.depth(nowhere)),
    "not-found",
    "something was created",
  );
  judge(context);
}

async function unroutable(context: CaseContext): Promise<void> {
  const { cannotTellUnroutable } = context.harness;
  const topic = context.topic("unsubscribed");
  const discarding = context.topic("discarding", { whenUnroutable: "discard" });
  const broker = await context.started({ destinations: [topic, discarding] });
  const failure = await publish(context, broker, topic, [], { n: 1 });
  if (cannotTellUnroutable === undefined) {
    assert.equal(failure?.code, "unroutable", `an event without a subscription: ${failure?.message ?? "confirmed"}`);
  } else {
    mustSucceed(failure);
    context.note(cannotTellUnroutable);
  }
  mustSucceed(await publish(context, broker, discarding, [], { n: 2 }));
}

async function afterTheConfirm(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const held = holdConfirms(context.harness.adapter());
  const broker = await context.started({ destinations: [orders] }, () => {}, held.adapter);
  let settled = 0;
  const sends = [1, 2, 3].map((n) => send(context, broker, orders, { n }).finally(() => settled++));
  // The broker has confirmed all of them, and the decorator holds the results back.
  await context.until("the broker to answer", () => held.answered.length === 3);
  await context.until("the messages to be on the queue", async () => (await broker.depth(orders)).ready === 3);
  assert.equal(settled, 0, "a send resolved before its confirm");
  held.release();
  for (const refusal of await Promise.all(sends)) mustSucceed(refusal);
  await context.started({}, (one) => one.consume(orders, () => {}));
  await judgeClean(context, broker, orders);
  await confirmedIsStored(context);
}

async function nativeMessage(context: CaseContext): Promise<void> {
  const orders: Queue<{ n: number }> = context.queue("orders");
  const watched = watch(context.harness.adapter());
  const natives: unknown[] = [];
  const broker = await context.started(
    {},
    (one) => one.consume(orders, (_, delivery) => void natives.push(delivery.native)),
    watched.adapter,
  );
  mustSucceed(await send(context, broker, orders, { n: 1 }));
  await judgeClean(context, broker, orders);
  assert.equal(natives.length, 1);
  if (context.harness.noNative !== undefined) {
    assert.equal(natives[0], undefined, "delivery.native is set, but the harness names a reason for none");
    return context.refused(context.harness.noNative);
  }
  assert.notEqual(natives[0], undefined, "delivery.native is undefined");
  assert.ok(watched.traffic(orders.name).natives.has(natives[0]), "delivery.native is not the adapter's message");
}

async function traceContext(context: CaseContext): Promise<void> {
  const orders = context.queue("orders", { key: ({ n }) => String(n) });
  const placed = context.topic("placed");
  const seen: Delivery[] = [];
  const broker = await context.started({ consume: { retry: { delay: { firstMs: 0 } } } }, (one) => {
    one.consume(orders, async (body, delivery) => {
      seen.push(delivery);
      // A retry, and a handler that forwards the headers, do not change them.
      if (delivery.attempt === 1) throw new Error("the first attempt fails");
      mustSucceed(await publish(context, one, placed, ["billing"], body, { headers: delivery.headers }));
    });
    one.subscribe(placed, "billing", (_, delivery) => void seen.push(delivery));
  });
  mustSucceed(await send(context, broker, orders, { n: 1 }, { headers: TRACE }));
  await context.until("the event to arrive", () => context.ledger.effects(`${placed.name}..billing`) === 1);
  await drained(context, broker, orders);
  await drained(context, broker, placed, "billing");
  judge(context);
  assert.equal(seen.length, 3);
  for (const delivery of seen) sameHeaders(TRACE, delivery);
}

export const wire: readonly ConformanceCase[] = [
  { number: "1", title: "id, key, body and headers come back equal", run: roundTrip },
  { number: "2", title: "over a limit: typed error, nothing sent; a bad item fails alone", run: overTheLimit },
  { number: "3", title: "missing destination: typed error in bounded time, nothing created", run: missing },
  {
    number: "4a",
    title: "a send resolves after the broker's confirm, and a confirmed message is stored",
    run: afterTheConfirm,
  },
  { number: "4b", title: "an unroutable event fails as `unroutable`", needsTopics: true, run: unroutable },
  { number: "5a", title: "the native message is reachable", run: nativeMessage },
  { number: "5b", title: "headers keep the trace context", needsTopics: true, run: traceContext },
  foreignCase,
];
