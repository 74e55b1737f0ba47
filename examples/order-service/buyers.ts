import { setTimeout as sleep } from "node:timers/promises";
import type { Order } from "./orders.ts";

/** What the buyers were told, by the ids of their orders. */
export interface Answers {
  /** 201, or 200: it was there already. */
  readonly accepted: Set<string>;
  /** Those of them that were answered 200: the order was placed by an earlier request, whose answer was lost. */
  readonly there: Set<string>;
  /** 402: no credit. */
  readonly refused: Set<string>;
  /** Requests without an answer, or with one that says to ask again. */
  unanswered: number;
}

const AT_ONCE = 16;
const ANSWER_WITHIN_MS = 10_000;
const ASK_AGAIN_MS = 50;

/** Places all orders, some at once, each as often as it takes to get an answer. Asks no more once `signal` is aborted. */
export async function buy(
  orders: readonly Order[],
  shops: ReadonlySet<string>,
  answers: Answers,
  signal: AbortSignal,
): Promise<void> {
  const waiting = orders.values();
  const buyer = async (): Promise<void> => {
    for (const order of waiting) await place(order, shops, answers, signal);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, buyer));
}

async function place(order: Order, shops: ReadonlySet<string>, answers: Answers, signal: AbortSignal): Promise<void> {
  for (; !signal.aborted; await sleep(ASK_AGAIN_MS)) {
    const status = await request(order, [...shops], signal);
    if (status === 201 || status === 200) answers.accepted.add(order.id);
    if (status === 200) answers.there.add(order.id);
    if (status === 402) answers.refused.add(order.id);
    if (status === 201 || status === 200 || status === 402) return;
    if (status !== undefined && status !== 503) throw new Error(`order ${order.id} was answered ${status}`);
    answers.unanswered++;
  }
}

/** The status of the answer; undefined if there was none. */
async function request(
  { id, customer, cents }: Order,
  shops: readonly string[],
  signal: AbortSignal,
): Promise<number | undefined> {
  const shop = shops[Math.floor(Math.random() * shops.length)];
  if (shop === undefined) return undefined;
  try {
    const answer = await fetch(`${shop}/orders/${id}`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ customer, cents }),
      signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_WITHIN_MS)]),
    });
    await answer.arrayBuffer();
    return answer.status;
  } catch {
    return undefined;
  }
}
