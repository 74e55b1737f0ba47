import type { DeliverySink, DeliveryToken, IncomingMessage, Receiver, Settlement } from "../../core/adapter.ts";
import type { DeadLettersAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { afterCurrentTurn, type Clock, pause, type Timer, within } from "../../core/clock.ts";
import type { MessagingError } from "../../core/errors.ts";

const SETTLED_AT_ONCE = 1_000;
/** How many times a lease is renewed before it would end. */
const RENEWALS = 3;
/** How long a close waits for requeues. */
const RELEASE_MS = 5_000;

/** A dead letter that this process holds. No other process gets it until it is removed, requeued or lost. */
export interface Taken {
  readonly message: IncomingMessage;
  readonly from: OpenReceiver;
}

/** One receiver of a holder, with its deliveries. */
class OpenReceiver {
  prefetch: number;
  /** How often the prefetch was increased. */
  widenings = 0;
  #receiver: Receiver | undefined;
  #clock: Clock | undefined;
  /** Delivered, and not taken yet. */
  #waiting = new Map<DeliveryToken, IncomingMessage>();
  /** Taken, and in progress. */
  readonly #working = new Set<DeliveryToken>();
  /** Taken, and held until the close. */
  readonly #kept = new Set<DeliveryToken>();
  #removals: { readonly token: DeliveryToken; readonly done: (removed: boolean) => void }[] = [];
  #stopRenewing: (() => Promise<void>) | undefined;

  constructor(prefetch: number) {
    this.prefetch = prefetch;
  }

  opened(receiver: Receiver, clock: Clock): void {
    this.#receiver = receiver;
    this.#clock = clock;
    receiver.prefetch(this.prefetch);
    if (receiver.leaseMs !== undefined)
      this.#stopRenewing = renewing(clock, receiver.leaseMs / RENEWALS, () => this.#renew());
  }

  get held(): number {
    return this.#waiting.size + this.#working.size + this.#kept.size;
  }

  get leased(): boolean {
    return this.#receiver?.leaseMs !== undefined;
  }

  get hasWaiting(): boolean {
    return this.#waiting.size > 0;
  }

  /** Whether kept deliveries fill the prefetch. */
  get isFull(): boolean {
    return this.held >= this.prefetch && this.#kept.size > 0;
  }

  widen(by: number): void {
    if (by <= 0) return;
    this.widenings++;
    this.prefetch += by;
    this.#receiver?.prefetch(this.prefetch);
  }

  deliver(batch: readonly IncomingMessage[]): void {
    for (const message of batch) this.#waiting.set(message.token, message);
  }

  lost(tokens: readonly DeliveryToken[] | "all"): void {
    const all = [this.#waiting, this.#working, this.#kept];
    for (const holding of all) {
      if (tokens === "all") holding.clear();
      else for (const token of tokens) holding.delete(token);
    }
  }

  /** Other consumers need these: requeues all that are not in progress. */
  revoke(tokens: readonly DeliveryToken[]): void {
    const idle = tokens.filter((token) => this.#waiting.delete(token) || this.#kept.delete(token));
    void this.#requeue(idle);
  }

  takeWaiting(): Taken[] {
    const waiting = this.#waiting;
    if (waiting.size === 0) return [];
    this.#waiting = new Map();
    return [...waiting.values()].map((message) => {
      this.#working.add(message.token);
      return { message, from: this };
    });
  }

  has(token: DeliveryToken): boolean {
    return this.#working.has(token);
  }

  keep(token: DeliveryToken): void {
    if (this.#working.delete(token)) this.#kept.add(token);
  }

  giveBack(token: DeliveryToken): void {
    if (this.#working.delete(token)) void this.#requeue([token]);
  }

  /** Removes within one turn are settled in one batch. */
  remove(token: DeliveryToken): Promise<boolean> {
    return new Promise((done) => {
      this.#removals.push({ token, done });
      if (this.#removals.length === 1) afterCurrentTurn(() => void this.#settleRemovals());
    });
  }

  caughtUp(): Promise<boolean> {
    return this.#receiver?.caughtUp?.() ?? Promise.resolve(true);
  }

  async #settleRemovals(): Promise<void> {
    const removals = this.#removals;
    this.#removals = [];
    const batch = removals.map(({ token }): Settlement => ({ token, action: "ack" }));
    const results = (await this.#receiver?.settle(batch)) ?? [];
    for (const [index, { token, done }] of removals.entries()) {
      this.#working.delete(token);
      done(results[index] === "settled");
    }
  }

  async #renew(): Promise<void> {
    const held = [...this.#waiting.keys(), ...this.#working, ...this.#kept];
    for (let from = 0; from < held.length; from += SETTLED_AT_ONCE) {
      const tokens = held.slice(from, from + SETTLED_AT_ONCE);
      const kept = (await this.#receiver?.extend(tokens)) ?? [];
      this.lost(tokens.filter((_, index) => kept[index] === false));
    }
  }

  async #requeue(tokens: readonly DeliveryToken[]): Promise<void> {
    for (let from = 0; from < tokens.length; from += SETTLED_AT_ONCE) {
      const batch = tokens.slice(from, from + SETTLED_AT_ONCE);
      await this.#receiver?.settle(batch.map((token) => ({ token, action: "requeue" })));
    }
  }

  async close(): Promise<void> {
    this.#receiver?.prefetch(0);
    // A lease that is renewed after the requeue would hide the message from all consumers.
    await this.#stopRenewing?.();
    const held = [...this.#waiting.keys(), ...this.#working, ...this.#kept];
    this.lost("all");
    // The broker may refuse the requeue for now.
    if (this.#clock !== undefined) await within(this.#clock, RELEASE_MS, this.#requeue(held));
    await this.#receiver?.close();
  }
}

/** Calls `renew` periodically. The returned function stops it, and resolves when no call is in progress. */
function renewing(clock: Clock, everyMs: number, renew: () => Promise<void>): () => Promise<void> {
  let timer: Timer;
  let stopped = false;
  let under: Promise<void> = Promise.resolve();
  const again = (): void => {
    under = renew().then(() => {
      if (!stopped) timer = clock.schedule(again, everyMs);
    });
  };
  timer = clock.schedule(again, everyMs);
  return async () => {
    stopped = true;
    clock.cancel(timer);
    await under;
  };
}

/** The prefetch of a receiver until body sizes are known. */
const FIRST_PREFETCH = 32;
const MOST_PREFETCH = 1_000;
const LEAST_PREFETCH = 4;
/** After this many increases a new receiver is opened: RabbitMQ makes a consumer for each increase. */
const MOST_WIDENINGS = 8;
/** The most bytes of bodies that are prefetched. */
const MOST_BYTES = 32 * 1024 * 1024;

/** Callbacks of a holder for each delivery. They must not throw. */
interface HolderQuestions {
  /** Whether to take it. Called if the broker can skip deliveries; otherwise every delivery is taken. */
  wanted(message: IncomingMessage): boolean;
  /** Called for every delivery when it arrives. */
  arrived(message: IncomingMessage): void;
}

/**
 * Takes dead letters, and holds them until it is closed. If the broker can browse, only wanted dead letters are taken.
 * Otherwise all are: a kept one is held as a token without its body. When kept ones fill a prefetch, it is increased, or
 * another receiver is opened. So the bodies in memory are bounded; the number of held deliveries is not.
 */
export class Holder {
  readonly #internals: BrokerInternals;
  readonly #address: DeadLettersAddress;
  readonly #questions: HolderQuestions | undefined;
  readonly #canSkip: boolean;
  readonly #receivers: OpenReceiver[] = [];
  #messages = 0;
  #bytes = 0;
  #stalled: MessagingError | undefined;
  #hasLost = false;
  #arrived: (() => void) | undefined;

  private constructor(internals: BrokerInternals, address: DeadLettersAddress, questions: HolderQuestions | undefined) {
    this.#internals = internals;
    this.#address = address;
    this.#questions = questions;
    this.#canSkip = questions !== undefined && internals.adapter.browse !== undefined;
  }

  /** Opens a holder; without callbacks it takes everything. Rejects as `Adapter.receive` does. */
  static async open(
    internals: BrokerInternals,
    address: DeadLettersAddress,
    questions?: HolderQuestions,
  ): Promise<Holder> {
    const holder = new Holder(internals, address, questions);
    await holder.#open();
    return holder;
  }

  /** How many deliveries it holds. */
  get held(): number {
    let held = 0;
    for (const receiver of this.#receivers) held += receiver.held;
    return held;
  }

  /** The most broker consumers that it may have: an increased prefetch may be one more. */
  get consumers(): number {
    let consumers = 0;
    for (const { widenings } of this.#receivers) consumers += 1 + widenings;
    return consumers;
  }

  /** Whether deliveries have leases. Such brokers report depths inexactly. */
  get leased(): boolean {
    return this.#receivers.some(({ leased }) => leased);
  }

  /** Whether deliveries were lost, for example with a connection. They are delivered again. */
  get hasLost(): boolean {
    return this.#hasLost;
  }

  /** Why nothing arrives, if the broker reports it. */
  get stalled(): MessagingError | undefined {
    return this.#stalled;
  }

  /** Takes all that arrived. Returns nothing after `waitMs` without an arrival, or when the signal is aborted. */
  async take(waitMs: number, signal?: AbortSignal): Promise<readonly Taken[]> {
    if (!this.#receivers.some((receiver) => receiver.hasWaiting)) {
      await this.#makeRoom();
      await this.#arrival(waitMs, signal);
    }
    return this.#receivers.flatMap((receiver) => receiver.takeWaiting());
  }

  /** Whether every message that the broker handed out has arrived; false if that is unknown. */
  async caughtUp(): Promise<boolean> {
    const all = await Promise.all(this.#receivers.map((receiver) => receiver.caughtUp()));
    return all.every(Boolean) && !this.#receivers.some(({ hasWaiting }) => hasWaiting);
  }

  /** Whether it still holds the delivery. */
  has({ message, from }: Taken): boolean {
    return from.has(message.token);
  }

  /** Leaves it in the dead letters: holds it until the close without its body, or requeues it if the broker can skip it. */
  keep({ message, from }: Taken): void {
    if (this.#canSkip) from.giveBack(message.token);
    else from.keep(message.token);
  }

  /** Removes it. Resolves with false if it was lost before, and will be delivered again. */
  remove(taken: Taken): Promise<boolean> {
    return taken.from.remove(taken.message.token);
  }

  /** Requeues everything. A second call does nothing. */
  async close(): Promise<void> {
    await Promise.all(this.#receivers.splice(0).map((receiver) => receiver.close()));
  }

  async #makeRoom(): Promise<void> {
    const last = this.#receivers.at(-1);
    if (last?.isFull !== true) return;
    if (last.widenings < MOST_WIDENINGS) last.widen(this.#prefetch());
    else await this.#open();
  }

  async #open(): Promise<void> {
    const { adapter, clock } = this.#internals;
    const receiver = new OpenReceiver(this.#messages === 0 ? FIRST_PREFETCH : this.#prefetch());
    const sink: DeliverySink = {
      deliver: (batch) => {
        this.#stalled = undefined;
        this.#messages += batch.length;
        for (const message of batch) {
          this.#bytes += message.body.length;
          this.#questions?.arrived(message);
        }
        receiver.deliver(batch);
        // Now sizes of bodies are known.
        if (receiver.prefetch === FIRST_PREFETCH) receiver.widen(this.#prefetch() - FIRST_PREFETCH);
        this.#arrived?.();
      },
      lost: (tokens) => {
        this.#hasLost = true;
        receiver.lost(tokens);
      },
      revoke: (tokens) => receiver.revoke(tokens),
      stalled: (cause) => {
        this.#stalled = cause;
      },
      flowing: () => {
        this.#stalled = undefined;
      },
      filtered: () => {},
    };
    const questions = this.#canSkip ? this.#questions : undefined;
    const wanted = questions === undefined ? {} : { wanted: (message: IncomingMessage) => questions.wanted(message) };
    const options = { prefetch: receiver.prefetch, ordered: false, ...wanted };
    receiver.opened(await adapter.receive(this.#address, options, sink), clock);
    this.#receivers.push(receiver);
  }

  #prefetch(): number {
    const average = Math.max(this.#bytes / Math.max(this.#messages, 1), 1);
    return Math.min(Math.max(Math.floor(MOST_BYTES / average), LEAST_PREFETCH), MOST_PREFETCH);
  }

  async #arrival(waitMs: number, signal: AbortSignal | undefined): Promise<void> {
    const ended = new AbortController();
    this.#arrived = () => ended.abort();
    const either = signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal]);
    await pause(this.#internals.clock, waitMs, either);
    this.#arrived = undefined;
  }
}
