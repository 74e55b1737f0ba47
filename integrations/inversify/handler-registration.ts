import { MessagingError, type Queue, type Topic } from "../../core/index.ts";
import type { HandlerClass, TopicHandlerOptions } from "./message-handler.ts";

/** Where a handler takes its messages from, and how. */
export interface HandlerSource {
  readonly destination: Queue<never, unknown> | Topic<never, unknown>;
  /** Of a topic. */
  readonly subscription: string | undefined;
  readonly options: TopicHandlerOptions;
}

/** What `bindHandler` leaves in a container for `startMessaging` to find. */
export interface HandlerRegistration {
  readonly handler: HandlerClass<never>;
  /** Undefined where the class says it by its decorators. */
  readonly source: HandlerSource | undefined;
}

/**
 * What stands between the destination and the class, or in the decorator: a queue with options, or a topic with a
 * subscription and options. Throws `invalid` for anything else.
 */
export function handlerSource(where: string, destination: unknown, rest: readonly unknown[]): HandlerSource {
  const { kind } = (destination ?? {}) as { readonly kind?: unknown };
  const ofTopic = kind === "topic";
  const [subscription, options = {}] = ofTopic ? rest : [undefined, ...rest];
  const complete = ofTopic ? typeof subscription === "string" : kind === "queue";
  if (!complete || typeof options !== "object" || options === null) {
    throw new MessagingError(
      "invalid",
      `${where} takes a queue, or a topic and the name of a subscription, then options`,
    );
  }
  return { destination: destination as HandlerSource["destination"], subscription: subscription as string, options };
}
