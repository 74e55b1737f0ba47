import assert from "node:assert/strict";
import type { IncomingMessage, OutgoingMessage } from "../../core/adapter.ts";
import { type Delivery, deadLetter } from "../../core/delivery.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext } from "../context.ts";
import { DirectAdapter } from "../direct-adapter.ts";
import { drained } from "../judge.ts";

/** Long enough to be delayed by the broker. */
const RETRY_MS = 40;

/** A message with all foreign properties fails, is retried, is dead-lettered and is replayed. */
async function everything(context: CaseContext): Promise<void> {
  const { foreign, noNative } = context.harness;
  if (foreign === undefined) {
    if (noNative === undefined) context.notRun("the harness has no `foreign`");
    else context.notApplicable(`there are no foreign senders: ${noNative}`);
    return;
  }
  const orders = context.queue<unknown>("foreign");
  const seen: { readonly body: unknown; readonly delivery: Delivery; readonly firstPublishedAt: number }[] = [];
  const retry = { attempts: 5, delay: { firstMs: RETRY_MS, jitter: 0 } };
  const handler = (body: unknown, delivery: Delivery) => {
    seen.push({ body, delivery, firstPublishedAt: delivery.firstPublishedAt.getTime() });
    if (seen.length === 1) throw new Error("not yet");
    if (seen.length === 2) return deadLetter("not here");
  };
  const broker = await context.started({}, (one) => one.consume(orders, handler, { retry }));
  const deadLetters = await context.deadLetters(orders);
  const address = { kind: "queue", name: orders.name } as const;
  const direct = await DirectAdapter.open(context.harness.adapter());
  context.cleanUp(() => direct.close());
  const sent = await foreign.send(orders.name);
  await deadLetters.until(1);
  const [letter] = deadLetters.messages;
  assert.ok(
    letter !== undefined && letter.headers[HEADER.deadReason] === "rejected",
    "there is no dead letter of the reason rejected",
  );
  await direct.confirmed(address, [sentBack(letter)]);
  await context.until("the message to be handled", () => seen.length === 3);
  await drained(context, broker, orders);
  const what = ["as sent", "in its retry", "in its replay"];
  for (const [index, { body, delivery, firstPublishedAt }] of seen.entries()) {
    assert.deepEqual(foreign.read(delivery.native), sent, `the foreign properties, ${what[index]}`);
    assert.deepEqual(body, seen[0]?.body);
    assert.equal(delivery.id, seen[0]?.delivery.id);
    assert.equal(delivery.key, seen[0]?.delivery.key);
    assert.deepEqual({ ...delivery.headers }, { ...seen[0]?.delivery.headers }, `the headers, ${what[index]}`);
    assert.equal(firstPublishedAt, seen[0]?.firstPublishedAt, `firstPublishedAt, ${what[index]}`);
  }
  assert.deepEqual(
    seen.map(({ delivery }) => delivery.attempt),
    [1, 2, 1],
  );
}

/** A dead letter as a replay sends it. */
function sentBack(letter: IncomingMessage): OutgoingMessage {
  const { id, key, routingKey, body, contentType, priority = 0, foreign } = letter;
  const headers: Record<string, string> = Object.create(null);
  for (const name in letter.headers) {
    const isOfTheFailure = name.startsWith("anybroker-dead-") || name === HEADER.attempts;
    if (!isOfTheFailure) headers[name] = letter.headers[name] as string;
  }
  headers[HEADER.replays] = "1";
  const [size, delayMs, ttlMs] = [body.length, 0, undefined];
  return { id, key, routingKey, headers, body, contentType, size, priority, delayMs, ttlMs, foreign };
}

export const foreignCase: ConformanceCase = {
  number: "5c",
  title: "foreign properties stay on copies: retry, dead letter, replay",
  run: everything,
};
