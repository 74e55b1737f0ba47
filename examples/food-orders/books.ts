/** The services that hear of every order. Each name is that of its subscription, too. */
export const SERVICES = ["kitchen", "courier", "billing"] as const;

export type ServiceName = (typeof SERVICES)[number];

/** What every service has done. Services in earnest would have a database each; here they share this. */
export class Books {
  readonly #done: Readonly<Record<ServiceName, Map<string, number>>> = {
    kitchen: new Map(),
    courier: new Map(),
    billing: new Map(),
  };
  #cents = 0;

  /** Writes down that a service has handled an order. False if it had before: the event was delivered twice. */
  handled(service: ServiceName, orderId: string): boolean {
    const done = this.#done[service];
    const times = (done.get(orderId) ?? 0) + 1;
    done.set(orderId, times);
    return times === 1;
  }

  invoiced(cents: number): void {
    this.#cents += cents;
  }

  /** The sum of all invoices. */
  get cents(): number {
    return this.#cents;
  }

  /** How many orders a service has handled. */
  count(service: ServiceName): number {
    return this.#done[service].size;
  }

  /** How often a service was given an order once more. */
  duplicates(service: ServiceName): number {
    return [...this.#done[service].values()].reduce((sum, times) => sum + times - 1, 0);
  }
}
