import assert from "node:assert/strict";
import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { QueueAddress } from "../../core/address.ts";
import type { Delivery } from "../../core/delivery.ts";
import { queue } from "../../core/destination.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext, Work } from "../context.ts";
import { watch } from "../decorators/watch.ts";
import { DirectAdapter, type Inbox, outgoing } from "../direct-adapter.ts";
import { allEffected, drained, judge, judgeClean } from "../judge.ts";
import { mustSucceed, send, sendAll } from "../publishing.ts";
import { supports } from "../refusals.ts";
import { failedBeforeAcked } from "./crash-before-ack.ts";
import { works } from "./works.ts";

const AT_ONCE = { attempts: 5, delay: { firstMs: 0 } };

async function redelivered(context: CaseContext): Promise<void> {
  const orders = context.queue("orders", { key: ({ n }) => `k${n}` });
  const seen: { body: Work; delivery: Delivery }[] = [];
  const handler = (body: Work, delivery: Delivery): void => {
    seen.push({ body, delivery });
    if (delivery.attempt < 3) throw new Error("not yet");
  };
  const broker = await context.started({}, (one) => one.consume(orders, handler, { retry: AT_ONCE }));
  mustSucceed(await send(context, broker, orders, { n: 7 }, { headers: { colour: "blue" } }));
  await judgeClean(context, broker, orders);
  assert.deepEqual(
    seen.map(({ delivery }) => delivery.attempt),
    [1, 2, 3],
  );
  const [first] = seen;
  for (const { body, delivery } of seen) {
    assert.equal(delivery.id, first?.delivery.id);
    assert.equal(delivery.key, "k7");
    assert.deepEqual(body, { n: 7 });
    assert.deepEqual({ ...delivery.headers }, { colour: "blue" });
    assert.equal(delivery.firstPublishedAt.getTime(), first?.delivery.firstPublishedAt.getTime());
  }
}

async function settledTwice(context: CaseContext): Promise<void> {
  const address: QueueAddress = { kind: "queue", name: context.name("orders") };
  const direct = await DirectAdapter.open(context.leasing());
  context.cleanUp(() => direct.close());
  await direct.declare({ queues: [{ address, ordered: false, priorities: 1 }] });
  const ids = [context.id(), context.id(), context.id()];
  await direct.confirmed(
    address,
    ids.map((id) => outgoing({ id })),
  );
  const inbox = await direct.receive(address, { prefetch: 10, ordered: false });
  const arrived = async (from: Inbox, count: number): Promise<void> =>
    context.until(`${count} deliveries`, () => from.messages.length === count);
  await arrived(inbox, 3);
  const [first, second, third] = inbox.messages;
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  assert.deepEqual(await inbox.settle([first], "ack"), ["settled"]);
  assert.deepEqual(await inbox.settle([first], "ack"), ["fenced"], "a second ack");
  assert.deepEqual(await inbox.settle([first], "requeue"), ["fenced"], "a requeue after the ack");
  assert.deepEqual(await inbox.settle([second], "requeue"), ["settled"]);
  await arrived(inbox, 4);
  const again = inbox.messages[3];
  assert.ok(again !== undefined);
  assert.equal(again.id, second.id, "the requeued message was not redelivered");
  assert.deepEqual(await inbox.settle([second], "ack"), ["fenced"], "an ack of the old delivery");
  assert.deepEqual(await inbox.settle([again], "ack"), ["settled"]);
  await inbox.receiver?.close();
  await inbox.receiver?.close();
  assert.deepEqual(await inbox.settle([third], "ack"), ["fenced"], "an ack after the close");
  const later = await direct.receive(address, { prefetch: 10, ordered: false });
  await arrived(later, 1);
  assert.equal(later.messages[0]?.id, third.id, "the message that was unsettled at the close was not redelivered");
  if (later.receiver?.leaseMs !== undefined) await lateByLease(context, later);
  assert.deepEqual(await later.settle(later.messages.slice(-1), "ack"), ["settled"]);
  await context.until("the queue to be empty", async () => {
    const { ready, unsettled } = await direct.adapter.depth(address);
    return ready === 0 && (unsettled ?? 0) === 0;
  });
}

/** A lease that is not extended ends: the message is redelivered, and its first delivery cannot settle it. */
async function lateByLease(context: CaseContext, inbox: Inbox): Promise<void> {
  const { leaseMs = 0 } = inbox.receiver ?? {};
  const patienceMs = leaseMs * 2 + context.patienceMs;
  await context.until("the message to be redelivered after its lease", () => inbox.messages.length === 2, patienceMs);
  const [late] = inbox.messages;
  assert.ok(late !== undefined);
  assert.deepEqual(await inbox.receiver?.extend([late.token]), [false], "a lost lease was extended");
  assert.deepEqual(await inbox.settle([late], "ack"), ["fenced"], "an ack after the lease");
}

async function noLeak(context: CaseContext): Promise<void> {
  const plain = context.queue<{ n: number; list: number[] }>("plain");
  const queues = [plain];
  if (context.capabilities.order.support !== "unsupported") queues.push(context.queue("ordered", { ordered: true }));
  const seen: unknown[] = [];
  const handler = (body: { n: number; list: number[] }, delivery: Delivery): void => {
    seen.push(structuredClone([body, { ...delivery.headers }]));
    delivery.headers.colour = "red";
    delivery.headers.added = "by the handler";
    delete delivery.headers.size;
    body.list.push(4);
    if (delivery.attempt < 3) throw new Error("again");
  };
  const broker = await context.started({ consume: { retry: AT_ONCE } }, (one) => {
    for (const each of queues) one.consume(each, handler);
  });
  const headers = { colour: "blue", size: "xl" };
  for (const each of queues) {
    mustSucceed(await send(context, broker, each, { n: 1, list: [1, 2, 3] }, { headers, key: "k" }));
  }
  await judgeClean(context, broker, ...queues);
  assert.equal(seen.length, 3 * queues.length);
  for (const one of seen) assert.deepEqual(one, [{ n: 1, list: [1, 2, 3] }, headers]);
}

async function keepsItsLease(context: CaseContext): Promise<void> {
  if (!(await supports(context, "lease"))) return;
  const orders = context.queue("orders");
  const watched = watch(context.leasing());
  const traffic = watched.traffic(orders.name);
  const ids = works(8).map(() => context.id());
  const [long = "", longer = ""] = ids;
  const extensions = (id: string): number => traffic.extensions.get(id) ?? 0;
  const handler = async (body: Work): Promise<void> => {
    const begin = performance.now();
    const { leaseMs = 0 } = traffic;
    const patienceMs = leaseMs * 4 + context.patienceMs;
    if (body.n === 0) await context.until("2.5 leases", () => performance.now() - begin > leaseMs * 2.5, patienceMs);
    if (body.n !== 1) return;
    await context.until("the shorter handler's message to be acked", () => traffic.acked.includes(long), patienceMs);
    const before = extensions(longer);
    await context.until("two more extensions", () => extensions(longer) >= before + 2, patienceMs);
  };
  // The long handlers use the whole concurrency. The other messages wait in memory, and their leases run too.
  const options = { concurrency: 2, prefetch: { messages: 10 } };
  const broker = await context.started({}, (one) => one.consume(orders, handler, options), watched.adapter);
  const all = works(8);
  await sendAll(context, broker, orders, all.slice(0, 2), (index) => ({ id: ids[index] ?? "" }));
  await context.until("both long handlers to run", () => context.ledger.starts(orders.name) === 2);
  await sendAll(context, broker, orders, all.slice(2), (index) => ({ id: ids[index + 2] ?? "" }));
  assert.notEqual(traffic.leaseMs, undefined, "the adapter declares leases, but its receiver has no leaseMs");
  const rival = await context.started({}, (one) => one.consume(orders, () => {}));
  const patienceMs = (traffic.leaseMs ?? 0) * 10 + context.patienceMs;
  await allEffected(context, patienceMs);
  await drained(context, rival, orders);
  judge(context);
  for (const id of ids) assert.equal(context.ledger.starts(orders.name, id), 1, `${id} was started again`);
  assert.equal(traffic.lateExtensions, 0, "a delivery was extended after its settlement");
}

const NUMBERED: StandardSchemaV1<Work, Work> = {
  "~standard": {
    version: 1,
    vendor: "anybroker-conformance",
    validate(value) {
      const fits = typeof value === "object" && value !== null && "n" in value && typeof value.n === "number";
      return fits ? { value: value as Work } : { issues: [{ message: "n must be a number", path: ["n"] }] };
    },
  },
};

async function undecodable(context: CaseContext): Promise<void> {
  const orders = queue(context.name("orders"), { schema: NUMBERED });
  const broker = await context.started({ destinations: [orders] });
  const direct = await DirectAdapter.open(context.harness.adapter());
  context.cleanUp(() => direct.close());
  const bad = new Map<string, Uint8Array>();
  const texts = [
    "{",
    "",
    '{"n":"one"}',
    "null",
    '{"__proto__":{"n":1},"n":1}',
    `${"[".repeat(5_000)}${"]".repeat(5_000)}`,
  ];
  for (const text of texts) bad.set(context.id(), Buffer.from(text));
  bad.set(context.id(), Uint8Array.of(0xff, 0xfe, 0x00));
  for (const [id, body] of bad) {
    context.ledger.attempted(id, [orders.name]);
    await direct.confirmed({ kind: "queue", name: orders.name }, [outgoing({ id, body, headers: { colour: "blue" } })]);
    context.ledger.ended(id, "confirmed");
  }
  const deadLetters = await context.deadLetters(orders);
  broker.consume(orders, () => {}, { retry: { attempts: 3, delay: { firstMs: 0 } } });
  await sendAll(context, broker, orders, works(20));
  await context.until("the valid messages to be handled", () => context.ledger.effects(orders.name) === 20);
  await deadLetters.until(bad.size);
  await drained(context, broker, orders);
  const dead = await deadLetters.all();
  assert.deepEqual(
    dead.map(({ id }) => id).sort(),
    [...bad.keys()].sort(),
    "the dead letters are not exactly the invalid messages",
  );
  for (const message of dead) {
    assert.equal(message.headers[HEADER.deadReason], "invalid");
    assert.equal(message.headers.colour, "blue");
    assert.ok(Buffer.from(message.body).equals(bad.get(message.id) ?? Buffer.alloc(0)), "the body was changed");
    assert.equal(context.ledger.starts(orders.name, message.id), 0, "a handler got an invalid message");
  }
  judge(context);
}

export const settlement: readonly ConformanceCase[] = [
  { number: "11a", title: "a failed message is redelivered, `attempt` rises by one", run: redelivered },
  { number: "11b", title: "a second or late ack does nothing", run: settledTwice },
  { number: "12", title: "a handler's header changes do not leak into the next attempt", run: noLeak },
  { number: "13", title: "fail M, ack M+1, crash: M is redelivered", run: failedBeforeAcked },
  { number: "14", title: "a handler longer than its lease keeps it; extensions end at settlement", run: keepsItsLease },
  { number: "15", title: "undecodable and invalid messages are dead-lettered once", run: undecodable },
];
