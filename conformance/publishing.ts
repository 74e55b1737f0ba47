import { addressName, workAddress } from "../core/address.ts";
import type { Broker, Receipt } from "../core/broker.ts";
import type { Queue, Topic } from "../core/destination.ts";
import { isMessagingError, type MessagingError } from "../core/errors.ts";
import type { PublishOptions, SendOptions } from "../core/options.ts";
import { type CaseContext, printOf } from "./context.ts";

/** Codes after which nobody knows whether the message is stored. After every other one it is not. */
const UNKNOWN_CODES: readonly string[] = ["unconfirmed"];

/** Sends, books the attempt and its end, and resolves with the refusal, if it was one. */
export function send<Body>(
  context: CaseContext,
  broker: Broker,
  to: Queue<Body>,
  body: Body,
  options: SendOptions = {},
): Promise<MessagingError | undefined> {
  const id = options.id ?? context.id();
  return booked(context, id, [to.name], body, () => broker.send(to, body, { ...options, id }));
}

/** Publishes for the named subscriptions, books the attempt and its end, and resolves with the refusal, if it was one. */
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
  return booked(context, id, sources, body, () => broker.publish(to, body, { ...options, id }));
}

/** Has `count` pieces of work done by so many callers, each one after another. */
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

/** As {@link callers}, fifty of them, each piece a send that must be confirmed. */
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

/** Throws the refusal where none is due. */
export function mustSucceed(refusal: MessagingError | undefined): void {
  if (refusal !== undefined) throw refusal;
}

async function booked(
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
    if (receipt.id !== id) throw new Error(`sent under the id ${id}, confirmed under ${receipt.id}`);
    ledger.ended(id, "confirmed");
    return undefined;
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    ledger.ended(id, UNKNOWN_CODES.includes(error.code) ? "unknown" : "refused");
    return error;
  }
}
