import type { Container } from "inversify";
import { describeAddress, MessagingError, type WorkAddress } from "../../core/index.ts";
import type { HandlerRegistration, HandlerSource } from "./handler-registration.ts";
import { handledBy } from "./handles.ts";
import { BROKER, brokerOf, HANDLERS } from "./identifiers.ts";
import type { HandlerClass } from "./message-handler.ts";

/** A handler with the one place that it takes messages from. */
export interface PlannedHandler extends HandlerSource {
  readonly handler: HandlerClass<never>;
  readonly address: WorkAddress;
  /** For people: `Billing, which handles subscription "billing" of topic "order.placed"`. */
  readonly title: string;
}

/** What the handlers of a container are, and what keeps them from being started. */
export interface HandlerPlan {
  readonly handlers: readonly PlannedHandler[];
  readonly problems: readonly MessagingError[];
}

/** Reads what `bindHandler` left in a container. */
export function planHandlers(container: Container): HandlerPlan {
  const problems: MessagingError[] = [];
  const takers = new Map<string, PlannedHandler>();
  for (const registration of container.getAll(HANDLERS, { optional: true })) {
    const sources = sourcesOf(registration);
    if (sources.length === 0) problems.push(undecorated(registration.handler));
    for (const source of sources) {
      const planned = plan(registration.handler, source);
      const { broker = "" } = source.options;
      const place = JSON.stringify([broker, planned.address]);
      const first = takers.get(place);
      if (first !== undefined) problems.push(takenTwice(first, planned));
      else if (!container.isBound(broker === "" ? BROKER : brokerOf(broker))) problems.push(noBroker(planned));
      else takers.set(place, planned);
    }
  }
  return { handlers: [...takers.values()], problems };
}

function sourcesOf({ handler, source }: HandlerRegistration): readonly HandlerSource[] {
  return source === undefined ? handledBy(handler) : [source];
}

function plan(handler: HandlerClass<never>, source: HandlerSource): PlannedHandler {
  const { destination, subscription = "" } = source;
  const address: WorkAddress =
    destination.kind === "queue"
      ? { kind: "queue", name: destination.name }
      : { kind: "subscription", topic: destination.name, name: subscription };
  return { ...source, handler, address, title: `${handler.name}, which handles ${describeAddress(address)}` };
}

function undecorated({ name }: HandlerClass<never>): MessagingError {
  const what = `${name} was given to bindHandler and does not say what it handles`;
  return new MessagingError(
    "invalid",
    `${what}: put @Handles(…) on the class itself, or name the destination: bindHandler(binder, queue, ${name})`,
  );
}

function takenTwice(first: PlannedHandler, second: PlannedHandler): MessagingError {
  const who =
    first.handler === second.handler
      ? `${first.handler.name} is bound twice for`
      : `${first.handler.name} and ${second.handler.name} both handle`;
  return new MessagingError(
    "conflict",
    `${who} ${describeAddress(first.address)} in one container, where each would get a part of the messages. ` +
      "Give each its own subscription of a topic; for more at a time raise concurrency",
  );
}

function noBroker({ title, options }: PlannedHandler): MessagingError {
  const { broker } = options;
  const what = broker === undefined ? "no broker without a name" : `no broker "${broker}"`;
  const how =
    broker === undefined ? "{ broker }, or name one in the handler's options" : `{ brokers: { ${broker}: … } }`;
  return new MessagingError("invalid", `${title}: the container has ${what}; give messagingModule ${how}`);
}
