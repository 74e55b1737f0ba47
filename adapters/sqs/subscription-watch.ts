import { describeAddress, type SubscriptionAddress } from "../../core/address.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";

const LOOK_EVERY_MS = 60_000;
/** How often, and how long after each other, a watch looks before it believes that something is gone. */
const LOOKS = 6;
const LOOK_AGAIN_MS = 500;

/** Looks until something is there, for three seconds at most. Resolves with whether it is. */
export async function reappears(look: () => Promise<boolean>, isOver: () => boolean): Promise<boolean> {
  for (let looks = 0; looks < LOOKS && !isOver(); looks++) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    if (await look()) return true;
  }
  return false;
}

/** What a watch needs of the adapter around it. */
interface WatchHost {
  /** Every subscription that is consumed, once for each consumer. */
  consumed(): readonly SubscriptionAddress[];
  /** Whether SNS has the subscription. Rejects if it could not look. */
  exists(address: SubscriptionAddress): Promise<boolean>;
  /** Makes it again if this process may. Never rejects. */
  restore(address: SubscriptionAddress): Promise<void>;
  /** SNS brings nothing to the consumers of a subscription, and why; undefined when SNS does. */
  cutOff(address: SubscriptionAddress, cause: MessagingError | undefined): void;
  /** This process has no right to look. */
  refused(address: SubscriptionAddress, cause: MessagingError): void;
}

/**
 * Looks every minute whether SNS has the subscriptions that are consumed. No poll tells: without its subscription a queue is
 * merely empty. A subscription goes with its topic, or when somebody removes it.
 */
export class SubscriptionWatch {
  readonly #host: WatchHost;
  /** AWS records every refusal, so one is enough. */
  readonly #refused = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(host: WatchHost) {
    this.#host = host;
  }

  start(): void {
    if (this.#isOver) return;
    // Processes that started together need not look together.
    this.#timer = setTimeout(
      () => void this.#look().finally(() => this.start()),
      LOOK_EVERY_MS * (0.75 + Math.random() / 2),
    );
    this.#timer.unref();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #look(): Promise<void> {
    const all = new Map(this.#host.consumed().map((address) => [describeAddress(address), address]));
    for (const [name, address] of all) {
      if (this.#isOver) return;
      if (!this.#refused.has(name)) await this.#lookFor(name, address);
    }
  }

  async #lookFor(name: string, address: SubscriptionAddress): Promise<void> {
    const look = (): Promise<boolean> => this.#host.exists(address);
    const isOver = (): boolean => this.#isOver;
    try {
      let exists = (await look()) || (await reappears(look, isOver));
      if (!exists && !this.#isOver) {
        await this.#host.restore(address);
        exists = await look();
      }
      if (!this.#isOver) this.#host.cutOff(address, exists ? undefined : gone(address));
    } catch (error) {
      // Other failures of a look pass, or the polls report them.
      if (!isMessagingError(error, "unauthorized") || this.#isOver) return;
      this.#refused.add(name);
      this.#host.refused(address, error);
    }
  }
}

function gone(address: SubscriptionAddress): MessagingError {
  const what = "its queue is not subscribed to the topic on SNS any more, and gets no events";
  return new MessagingError(
    "not-found",
    `${describeAddress(address)}: ${what}; start a process that declares it, or subscribe the queue with raw delivery`,
  );
}
