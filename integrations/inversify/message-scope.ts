import { Container, type ContainerModule, type Newable } from "inversify";
import type { Delivery, HandlerResult } from "../../core/index.ts";
import { DELIVERY } from "./identifiers.ts";
import type { LoopTurns } from "./loop-turns.ts";
import type { HandlerClass, MessageHandler } from "./message-handler.ts";

/** Told of what could not be released after a handler had failed already; the handler's own error is the message's. */
export type ReleaseFailed = (error: unknown) => void;

/** Makes a handler and what it needs for one message, in a container of its own, and releases all of it afterwards. */
export class MessageScope {
  readonly #parent: Container;
  readonly #perMessage: readonly ContainerModule[];
  readonly #handler: Newable<MessageHandler<never>>;
  readonly #turns: LoopTurns;
  #single: MessageHandler<never> | undefined;

  constructor(
    parent: Container,
    perMessage: readonly ContainerModule[],
    handler: HandlerClass<never>,
    turns: LoopTurns,
  ) {
    this.#parent = parent;
    this.#perMessage = perMessage;
    this.#handler = handler as Newable<MessageHandler<never>>;
    this.#turns = turns;
  }

  /** The handler is one and the same for all messages: nothing is made for any of them from now on. */
  keep(single: MessageHandler<never>): void {
    this.#single = single;
  }

  /**
   * Hands a message to a handler of its own. Rejects with what its construction, its `handle` or, if these went well, its
   * release rejects with; or throws what its `handle` throws.
   */
  run(body: never, delivery: Delivery, releaseFailed: ReleaseFailed): HandlerResult | Promise<HandlerResult> {
    if (this.#single !== undefined) return this.#single.handle(body, delivery);
    const use = (handler: MessageHandler<never>) => handler.handle(body, delivery);
    return this.#within((child) => void child.bind(DELIVERY).toConstantValue(delivery), use, releaseFailed);
  }

  /** Makes a handler, looks at it, and releases it. Resolves with how often the delivery was injected on the way. */
  async construct(delivery: Delivery, look: (handler: MessageHandler<never>) => void): Promise<number> {
    let injected = 0;
    const counted = (): Delivery => {
      injected++;
      return delivery;
    };
    await this.#within(
      (child) => void child.bind(DELIVERY).toDynamicValue(counted),
      look,
      () => {},
    );
    return injected;
  }

  async #within<Result>(
    prepare: (child: Container) => void,
    use: (handler: MessageHandler<never>) => Result | Promise<Result>,
    releaseFailed: ReleaseFailed,
  ): Promise<Result> {
    const turn = this.#turns.next();
    if (turn !== undefined) await turn;
    const child = new Container({ parent: this.#parent });
    let result: Result;
    try {
      prepare(child);
      if (this.#perMessage.length > 0) await child.loadAsync(...this.#perMessage);
      // What is a singleton here is one for this message, and is deactivated with it.
      if (!child.isBound(this.#handler)) child.bind(this.#handler).toSelf().inSingletonScope();
      result = await use(await child.getAsync(this.#handler));
    } catch (error) {
      await child.unbindAllAsync().catch(releaseFailed);
      throw error;
    }
    await child.unbindAllAsync();
    return result;
  }
}
