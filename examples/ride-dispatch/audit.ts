import { bindHandler } from "anybroker/inversify";
import { ContainerModule } from "inversify";
import type { Matched, Rides } from "./rides.ts";

export const AUDIT = "audit";

/** What each driver has earned. An entry stands there once, however often its event is read. */
export class AuditBook {
  readonly #entries = new Map<string, Matched>();
  #contradictions = 0;

  enter(ride: Matched): void {
    const before = this.#entries.get(ride.rideId);
    if (before !== undefined && before.driver !== ride.driver) this.#contradictions++;
    this.#entries.set(ride.rideId, ride);
  }

  get rides(): number {
    return this.#entries.size;
  }

  /** Rides that two drivers were sent to. */
  get contradictions(): number {
    return this.#contradictions;
  }

  /** Cents by driver. */
  earnings(): ReadonlyMap<string, number> {
    const earned = new Map<string, number>();
    for (const { driver, cents } of this.#entries.values()) earned.set(driver, (earned.get(driver) ?? 0) + cents);
    return earned;
  }
}

class Auditor {
  readonly #book: AuditBook;

  constructor(book: AuditBook) {
    this.#book = book;
  }

  handle(ride: Matched): void {
    this.#book.enter(ride);
  }
}

/** The audit: a subscription of what was matched. The container says which book it is written to. */
export function audit({ matched }: Rides): ContainerModule {
  return new ContainerModule((binder) => {
    binder.bind(Auditor).toResolvedValue((book: AuditBook) => new Auditor(book), [AuditBook]);
    bindHandler(binder, matched, AUDIT, Auditor, { broker: "audit" });
  });
}
