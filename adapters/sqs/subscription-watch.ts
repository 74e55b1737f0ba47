import { describeAddress, type SubscriptionAddress } from "../../core/address.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";

const CHECK_EVERY_MS = 60_000;
/** How often it checks again, and at which interval, before a resource counts as deleted. */
const CHECKS = 6;
const CHECK_AGAIN_MS = 500;

/** Checks for three seconds whether something exists again. Resolves with whether it does. */
export async function reappears(check: () => Promise<boolean>, isOver: () => boolean): Promise<boolean> {
  for (let checks = 0; checks < CHECKS && !isOver(); checks++) {
    await new Promise((resolve) => setTimeout(resolve, CHECK_AGAIN_MS));
    if (await check()) return true;
  }
  return false;
}

/** What the watch needs from its session. */
interface WatchHost {
  /** All consumed subscriptions, once for each consumer. */
  consumed(): readonly SubscriptionAddress[];
  /** Whether SNS has the subscription. Rejects if the check failed. */
  exists(address: SubscriptionAddress): Promise<boolean>;
  /** Recreates it if this process may. Never rejects. */
  restore(address: SubscriptionAddress): Promise<void>;
  /** Why SNS delivers nothing to the subscription; undefined if it does. */
  disconnected(address: SubscriptionAddress, cause: MessagingError | undefined): void;
  /** This process may not check the subscription. */
  refused(address: SubscriptionAddress, cause: MessagingError): void;
}

/**
 * Checks every minute whether SNS has the consumed subscriptions. Polls do not show it: without its subscription, a
 * queue is merely empty. A subscription is deleted with its topic, or by an operator.
 */
export class SubscriptionWatch {
  readonly #host: WatchHost;
  /** Subscriptions whose check was refused. AWS logs each refusal, so they are not checked again. */
  readonly #refused = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(host: WatchHost) {
    this.#host = host;
  }

  start(): void {
    if (this.#isOver) return;
    // Processes that started together should not check together.
    this.#timer = setTimeout(
      () => void this.#checkAll().finally(() => this.start()),
      CHECK_EVERY_MS * (0.75 + Math.random() / 2),
    );
    this.#timer.unref();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #checkAll(): Promise<void> {
    const all = new Map(this.#host.consumed().map((address) => [describeAddress(address), address]));
    for (const [name, address] of all) {
      if (this.#isOver) return;
      if (!this.#refused.has(name)) await this.#check(name, address);
    }
  }

  async #check(name: string, address: SubscriptionAddress): Promise<void> {
    const check = (): Promise<boolean> => this.#host.exists(address);
    const isOver = (): boolean => this.#isOver;
    try {
      let exists = (await check()) || (await reappears(check, isOver));
      if (!exists && !this.#isOver) {
        await this.#host.restore(address);
        exists = await check();
      }
      if (!this.#isOver) this.#host.disconnected(address, exists ? undefined : gone(address));
    } catch (error) {
      // Other failures are temporary, or the polls report them.
      if (!isMessagingError(error, "unauthorized") || this.#isOver) return;
      this.#refused.add(name);
      this.#host.refused(address, error);
    }
  }
}

function gone(address: SubscriptionAddress): MessagingError {
  const what = "its queue is no longer subscribed to the topic on SNS, and gets no events";
  return new MessagingError(
    "not-found",
    `${describeAddress(address)}: ${what}; start a process that declares it, or subscribe the queue with raw delivery`,
  );
}
