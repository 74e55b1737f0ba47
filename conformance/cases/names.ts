import assert from "node:assert/strict";
import { addressName, workAddress } from "../../core/address.ts";
import type { Broker } from "../../core/broker.ts";
import type { Delivery } from "../../core/delivery.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext, Work } from "../context.ts";
import { drained, judge } from "../judge.ts";
import { mustSucceed, publish, send } from "../publishing.ts";
import { supports } from "../refusals.ts";

const MESSAGES = 8;
const OPTIONS = { retry: { attempts: 2, delay: { firstMs: 20, factor: 1 } } };

/** A queue or subscription whose name resembles another. */
interface Party {
  readonly of: Queue<Work> | Topic<Work>;
  readonly subscription: string | undefined;
  /** The ids sent to it, and the ids its handler got. */
  readonly sent: Set<string>;
  readonly seen: Set<string>;
}

const party = (of: Party["of"], subscription?: string): Party => ({
  of,
  subscription,
  sent: new Set(),
  seen: new Set(),
});

/** Pairs that would have the same name on some broker if names were joined or replaced carelessly. */
function lookAlikes(context: CaseContext): readonly (readonly [Party, Party])[] {
  const [queue, topic] = [context.queue.bind(context), context.topic.bind(context)];
  return [
    [party(topic("a"), "b.c"), party(topic("a.b"), "c")],
    [party(queue("d.e")), party(topic("d"), "e")],
    [party(queue("f")), party(topic("f"), "g")],
    [party(queue("h")), party(queue("h.queue"))],
    [party(queue("i.Case")), party(queue("i.case"))],
    [party(queue("j-k")), party(queue("j_k"))],
  ];
}

/** A process does not know what others declare, so names must never collide. */
async function separate(context: CaseContext): Promise<void> {
  if (!(await supports(context, "fanOut"))) return;
  const pairs = lookAlikes(context);
  const [ones, others] = [pairs.map(([one]) => one), pairs.map(([, other]) => other)];
  const processes = [await consuming(context, ones), await consuming(context, others)] as const;
  const all = [
    ...ones.map((one) => [processes[0], one] as const),
    ...others.map((one) => [processes[1], one] as const),
  ];
  const deadLetters = await Promise.all(
    all.map(([, { of, subscription = "" }]) =>
      of.kind === "queue" ? context.deadLetters(of) : context.deadLetters(of, subscription),
    ),
  );
  for (let n = 0; n < MESSAGES; n++) for (const [broker, one] of all) await sendTo(context, broker, one, n);
  for (const [index, [broker, one]] of all.entries()) {
    const { of, subscription, sent, seen } = one;
    const what = subscription === undefined ? `${of.kind} ${of.name}` : `subscription ${subscription} of ${of.name}`;
    await deadLetters[index]?.until(1);
    const source = addressName(workAddress(of.name, subscription));
    await context.until(`all messages of ${what}`, () => context.ledger.effects(source) >= MESSAGES - 1);
    await drained(context, broker, of, subscription);
    assert.deepEqual([...seen].sort(), [...sent].sort(), `${what} got messages of another`);
    // A copy whose confirm was late may be stored twice, with one id.
    const dead = new Set((await deadLetters[index]?.all())?.map(({ id }) => id));
    const own = [...dead].filter((id) => sent.has(id));
    assert.equal(own.length, 1, `the dead letters of ${what} are not exactly the message that always fails`);
    assert.equal(dead.size, 1, `the dead letters of ${what} contain messages of another`);
  }
  judge(context);
}

/** A broker object, which represents a process, with handlers. Every message fails once, and the first always. */
function consuming(context: CaseContext, parties: readonly Party[]): Promise<Broker> {
  return context.started({}, (broker) => {
    for (const { of, subscription, seen } of parties) {
      const handler = (body: Work, { id, attempt }: Delivery): void => {
        seen.add(id);
        if (body.poison || attempt === 1) throw new Error("no");
      };
      if (of.kind === "queue") broker.consume(of, handler, OPTIONS);
      else broker.subscribe(of, subscription ?? "", handler, OPTIONS);
    }
  });
}

async function sendTo(
  context: CaseContext,
  broker: Broker,
  { of, subscription, sent }: Party,
  n: number,
): Promise<void> {
  const id = context.id();
  sent.add(id);
  const body: Work = n === 0 ? { n, poison: true } : { n };
  mustSucceed(
    of.kind === "queue"
      ? await send(context, broker, of, body, { id })
      : await publish(context, broker, of, [subscription ?? ""], body, { id }),
  );
}

export const namesCase: ConformanceCase = {
  number: "7b",
  title: "destinations of two processes never share a name; messages, retries and dead letters stay apart",
  needsTopics: true,
  run: separate,
};
