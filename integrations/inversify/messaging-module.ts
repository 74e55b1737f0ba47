import { ContainerModule } from "inversify";
import { ContainerHandlers } from "./container-handlers.ts";
import { ContainerMessaging } from "./container-messaging.ts";
import { BROKER, brokerOf, MESSAGING, PUBLISHER, publisherOf } from "./identifiers.ts";
import { type MessagingOptions, messagingOptions, UNNAMED } from "./messaging-options.ts";

/**
 * Puts messaging into a container. Nothing is connected before `startMessaging`, whatever is injected. From then on
 * `unbindAllAsync` of the container, or `unloadAsync` of the module, stops everything in order. A container takes one such
 * module. Throws `invalid` for wrong options.
 */
export function messagingModule(options: MessagingOptions): ContainerModule {
  const { broker, brokers, perMessage, tryHandlers, stopTimeoutMs } = messagingOptions(options);
  const named = Object.entries(brokers);
  const identifiers = new Map(named.map(([name]) => [name, brokerOf(name)]));
  if (broker !== undefined) identifiers.set(UNNAMED, BROKER);
  return new ContainerModule(({ bind }) => {
    if (broker !== undefined) {
      bind(BROKER).toConstantValue(broker);
      bind(PUBLISHER).toService(BROKER);
    }
    for (const [name, each] of named) {
      bind(brokerOf(name)).toConstantValue(each);
      bind(publisherOf(name)).toService(brokerOf(name));
    }
    bind(MESSAGING)
      .toDynamicValue(() => new ContainerMessaging(identifiers, new ContainerHandlers(perMessage, tryHandlers)))
      .inSingletonScope()
      .onDeactivation((messaging) => messaging.stop({ timeoutMs: stopTimeoutMs }));
  });
}
