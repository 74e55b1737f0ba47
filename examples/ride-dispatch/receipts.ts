import { bindHandler } from "anybroker/inversify";
import { ContainerModule } from "inversify";
import type { Receipt, Rides } from "./rides.ts";

/** Every so many receipts the mail server does not answer the first time. */
const NO_ANSWER_EVERY = 20;

/** The mail server, and the letters it has taken, by ride. */
export class Post {
  readonly #letters = new Map<string, number>();
  readonly #tried = new Set<string>();
  #failures = 0;

  async mail({ rideId, cents }: Receipt): Promise<void> {
    const first = !this.#tried.has(rideId);
    this.#tried.add(rideId);
    if (first && this.#tried.size % NO_ANSWER_EVERY === 0) {
      this.#failures++;
      throw new Error("the mail server does not answer");
    }
    this.#letters.set(rideId, cents);
  }

  get letters(): ReadonlyMap<string, number> {
    return this.#letters;
  }

  get failures(): number {
    return this.#failures;
  }
}

class Mailing {
  readonly #post: Post;

  constructor(post: Post) {
    this.#post = post;
  }

  async handle(receipt: Receipt): Promise<void> {
    await this.#post.mail(receipt);
  }
}

/** Mails a receipt for each ride, and tries again for as long as it takes. */
export function receipts(rides: Rides): ContainerModule {
  return new ContainerModule((binder) => {
    binder.bind(Mailing).toResolvedValue((post: Post) => new Mailing(post), [Post]);
    const retry = { attempts: 10, delay: { firstMs: 200, maxMs: 5_000 } };
    bindHandler(binder, rides.receipts, Mailing, { broker: "receipts", retry });
  });
}
