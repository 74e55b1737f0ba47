import type { Publisher } from "anybroker";
import { bindHandler, publisherOf } from "anybroker/inversify";
import { ContainerModule } from "inversify";
import { Drivers } from "./drivers.ts";
import type { Request, Rides } from "./rides.ts";

/** Finds a driver for each ride, and tells the other two brokers. It sees publishers, and no broker. */
class Matching {
  readonly #rides: Rides;
  readonly #drivers: Drivers;
  readonly #audit: Publisher;
  readonly #receipts: Publisher;

  constructor(rides: Rides, drivers: Drivers, audit: Publisher, receipts: Publisher) {
    this.#rides = rides;
    this.#drivers = drivers;
    this.#audit = audit;
    this.#receipts = receipts;
  }

  /** Done when both brokers have what they are told; otherwise the request comes again, and finds the same driver. */
  async handle(request: Request): Promise<void> {
    const { rideId, rider } = request;
    const matched = this.#drivers.match(request);
    // Ids that follow from the ride's: told once more, they are duplicates of the same message.
    await Promise.all([
      this.#audit.publish(this.#rides.matched, matched, { id: `${rideId}.matched` }),
      this.#receipts.send(this.#rides.receipts, { rideId, rider, cents: matched.cents }, { id: `${rideId}.receipt` }),
    ]);
  }
}

/** Matching, the hot path: many requests at once. */
export function matching(rides: Rides): ContainerModule {
  return new ContainerModule((binder) => {
    binder
      .bind(Matching)
      .toResolvedValue(
        (drivers: Drivers, audit: Publisher, receipts: Publisher) => new Matching(rides, drivers, audit, receipts),
        [Drivers, publisherOf("audit"), publisherOf("receipts")],
      )
      .inSingletonScope();
    bindHandler(binder, rides.requests, Matching, { broker: "matching", concurrency: 50 });
  });
}
