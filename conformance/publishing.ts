import { addressName, workAddress } from "../core/address.ts";
import type { Broker, Receipt } from "../core/broker.ts";
import type { Queue, Topic } from "../core/destination.ts";
import { isMessagingError, type MessagingError } from "../core/errors.ts";
import type { PublishOptions, SendOptions } from "../core/options.ts";
import { type CaseContext, printOf } from "./context.ts";

/** Codes after which the message may be stored. After all others it is not. */
const UNKNOWN_CODES: readonly string[] = ["unconfirmed"];

/** Sends and records the attempt and its end. Resolves with the error, if any. */
export function send<Body>(
  context: CaseContext,
  broker: Broker,
  to: Queue<Body>,
  body: Body,
  options: SendOptions = {},
): Promise<MessagingError | undefined> {
  const id = options.id ?? context.id();
  return recorded(context, id, [to.name], body, () => broker.send(to, body, { ...options, id }));
}

/** Publishes for the named subscriptions and records the attempt and its end. Resolves with the error, if any. */
export function publish<Body>(
  context: CaseContext,
  broker: Broker,
  to: Topic<Body>,
  subscriptions: readonly string[],
  body: Body,
  options: PublishOptions = {},
): Promise<MessagingError | undefined> {
  const id = options.id ?? context.id();
  const sources = subscriptions.map((name) => addressName(workAddress(to.name, name)));
  return recorded(context, id, sources, body, () => broker.publish(to, body, { ...options, id }));
}

/** Does `work` `count` times, with `callerCount` concurrent callers. */
export async function callers(
  count: number,
  callerCount: number,
  work: (index: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const call = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: callerCount }, call));
}

/** Sends all bodies with 50 concurrent callers. Each has to be confirmed. */
export async function sendAll<Body>(
  context: CaseContext,
  broker: Broker,
  to: Queue<Body>,
  bodies: readonly Body[],
  options: (index: number) => SendOptions = () => ({}),
): Promise<void> {
  await callers(bodies.length, 50, async (index) => {
    mustSucceed(await send(context, broker, to, bodies[index] as Body, options(index)));
  });
}

/** Throws the error, if there is one. */
export function mustSucceed(refusal: MessagingError | undefined): void {
  if (refusal !== undefined) throw refusal;
}

async function recorded(
  context: CaseContext,
  id: string,
  sources: readonly string[],
  body: unknown,
  call: () => Promise<Receipt>,
): Promise<MessagingError | undefined> {
  const { ledger } = context;
  ledger.attempted(id, sources, printOf(body));
  try {
    const receipt = await call();
    if (receipt.id !== id) throw new Error(`sent with the id ${id}, confirmed with ${receipt.id}`);
    ledger.ended(id, "confirmed");
    return undefined;
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    ledger.ended(id, UNKNOWN_CODES.includes(error.code) ? "unknown" : "refused");
    return error;
  }
}
