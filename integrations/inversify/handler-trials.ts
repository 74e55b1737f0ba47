import { type Delivery, MessagingError } from "../../core/index.ts";
import type { HandlerClass, MessageHandler } from "./message-handler.ts";
import type { MessageScope } from "./message-scope.ts";
import type { PlannedHandler } from "./planned-handler.ts";

/** How long a handler may take to be made and released. */
const TRIAL_MS = 30_000;

/** Makes handlers as for a message, and releases them, so that one that cannot be made is known before it is needed. */
export class HandlerTrials {
  /** What was found once stays so: the singleton has what it took. */
  readonly #captive = new Map<HandlerClass<never>, MessagingError>();

  /**
   * Makes a handler twice. What injects the delivery the first time only keeps it, and would keep the first message's for
   * all others; a handler that is the same both times is kept for all messages. Resolves with the problem, if there is one.
   */
  async problem(scope: MessageScope, planned: PlannedHandler): Promise<MessagingError | undefined> {
    const { handler, title } = planned;
    const delivery = trialDelivery(planned);
    const made: MessageHandler<never>[] = [];
    const look = (each: MessageHandler<never>): void => void made.push(each);
    try {
      const injected = await within(TRIAL_MS, scope.construct(delivery, look));
      const again = await within(TRIAL_MS, scope.construct(delivery, look));
      if (again < injected) this.#captive.set(handler, captive(title));
    } catch (cause) {
      const what = `${title}, could not be made and released as for a message`;
      return new MessagingError("invalid", `${what}; see the cause, and bind what it asks for`, { cause });
    }
    const [first, second] = made;
    if (typeof first?.handle !== "function")
      return new MessagingError("invalid", `${title}, has no method handle(body, delivery)`);
    if (first === second) scope.keep(first);
    return this.#captive.get(handler);
  }
}

/** Rejects when the time is up; what is waited for goes on. */
async function within<Result>(ms: number, wanted: Promise<Result>): Promise<Result> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new MessagingError("timeout", `it took longer than ${ms} ms`)), ms);
  try {
    return await Promise.race([wanted, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function captive(title: string): MessagingError {
  const what = `${title}: a singleton on the way to it injects the delivery`;
  return new MessagingError(
    "invalid",
    `${what}, and would keep the first message's for all others. Bind it in transient or request scope, or per message`,
  );
}

/** Stands in for the delivery of a message: of the right source, and plain otherwise. */
function trialDelivery({ destination, subscription }: PlannedHandler): Delivery {
  return {
    id: "trial",
    key: undefined,
    routingKey: undefined,
    headers: {},
    attempt: 1,
    firstPublishedAt: new Date(),
    destination: destination.name,
    subscription,
    signal: new AbortController().signal,
    deadlineAt: new Date(),
    remainingMs: 0,
    native: undefined,
  };
}
