import { type Adapter, type Broker, createBroker } from "anybroker";
import { messagingModule, startMessaging } from "anybroker/inversify";
import { Container, type ContainerModule } from "inversify";

/** The brokers of the dispatch, each by what it is for. */
export const BROKERS = ["matching", "audit", "receipts"] as const;

export type BrokerName = (typeof BROKERS)[number];

/** The adapter of each broker. They may be of three kinds, or of one. */
export type Adapters = Readonly<Record<BrokerName, Adapter>>;

/**
 * Starts a container with these brokers and the modules that use them. `unbindAllAsync` ends it: first the handlers, while
 * all brokers still stand, then the brokers.
 */
export async function startDispatch(
  adapters: Partial<Adapters>,
  ...modules: readonly ContainerModule[]
): Promise<Container> {
  const brokers: Record<string, Broker> = {};
  for (const [name, adapter] of Object.entries(adapters)) brokers[name] = createBroker(adapter);
  const container = new Container();
  container.load(messagingModule({ brokers }), ...modules);
  await startMessaging(container);
  return container;
}
