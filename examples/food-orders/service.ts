import { type Adapter, createBroker, type Destination } from "anybroker";
import { messagingModule, startMessaging } from "anybroker/inversify";
import { Container, type ContainerModule } from "inversify";
import { Books } from "./books.ts";

/** A service that runs: a container, with a broker object of its own. */
export interface Service {
  readonly container: Container;
  /** Lets running handlers finish, settles, and closes. */
  stop(): Promise<void>;
}

/** Starts a service: its module, and messaging. `destinations` is what it sends to. */
export async function startService(
  adapter: Adapter,
  books: Books,
  module: ContainerModule,
  destinations: readonly Destination[] = [],
): Promise<Service> {
  const container = new Container();
  container.bind(Books).toConstantValue(books);
  container.load(messagingModule({ broker: createBroker(adapter, { destinations }) }), module);
  await startMessaging(container);
  return { container, stop: () => container.unbindAllAsync() };
}
