import type { DeliverySink, IncomingMessage } from "../../core/adapter.ts";
import type { DeadLettersAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { pause } from "../../core/clock.ts";
import type { MessagingError } from "../../core/errors.ts";
import { OpenReceiver, type Taken } from "./open-receiver.ts";

/** The first prefetch of a receiver, until something is known of the sizes of bodies. */
const FIRST_PREFETCH = 32;
const MOST_PREFETCH = 1_000;
const LEAST_PREFETCH = 4;
/** So often a receiver's prefetch is widened for what stays, before another is opened: RabbitMQ makes a consumer of each. */
const MOST_WIDENINGS = 8;
/** The most bytes of bodies that are on their way or wait to be looked at. */
const MOST_BYTES = 32 * 1024 * 1024;

/** What a holder asks about what it comes by. Neither may throw. */
export interface HolderQuestions {
  /** Whether it is worth taking. Asked where the broker can pass over what is not; elsewhere everything is taken. */
  wanted(message: IncomingMessage): boolean;
  /** Told of everything that is taken, when it comes. */
  seen(message: IncomingMessage): void;
}

/**
 * Takes dead letters, and keeps them from everybody else until its end. What was looked at and stays is kept as a token,
 * without its body. Where the broker can pass over what is not wanted only that is taken; elsewhere everything is, with a
 * wider prefetch, or a further receiver, whenever a prefetch is full of what stays: so the bodies in memory are bounded, and
 * what is held is not.
 */
export class Holder {
  readonly #internals: BrokerInternals;
  readonly #address: DeadLettersAddress;
  readonly #questions: HolderQuestions | undefined;
  readonly #passesOver: boolean;
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
    this.#passesOver = questions !== undefined && internals.adapter.browse !== undefined;
  }

  /** Rejects as `Adapter.receive` does. Without questions everything is taken. */
  static async open(
    internals: BrokerInternals,
    address: DeadLettersAddress,
    questions?: HolderQuestions,
  ): Promise<Holder> {
    const holder = new Holder(internals, address, questions);
    await holder.#open();
    return holder;
  }

  /** How many are in our hands. */
  get held(): number {
    let held = 0;
    for (const receiver of this.#receivers) held += receiver.held;
    return held;
  }

  /** How many consumers of the broker's that is, at most: a wider prefetch may be one more. */
  get consumers(): number {
    let consumers = 0;
    for (const { widenings } of this.#receivers) consumers += 1 + widenings;
    return consumers;
  }

  /** Whether deliveries have leases, as on brokers that tell little about what stands. */
  get leased(): boolean {
    return this.#receivers.some(({ leased }) => leased);
  }

  /** Whether any were lost, as with a connection: they come again, also those that were kept. */
  get hasLost(): boolean {
    return this.#hasLost;
  }

  /** Why nothing comes, as far as the broker says. */
  get stalled(): MessagingError | undefined {
    return this.#stalled;
  }

  /** What came, all of it that waits here; nothing after so many milliseconds without any, or an abort. */
  async take(waitMs: number, signal?: AbortSignal): Promise<readonly Taken[]> {
    if (!this.#receivers.some((receiver) => receiver.hasWaiting)) {
      await this.#makeRoom();
      await this.#arrival(waitMs, signal);
    }
    return this.#receivers.flatMap((receiver) => receiver.takeWaiting());
  }

  /** Whether it is in our hands, as far as we were told. */
  has({ message, from }: Taken): boolean {
    return from.has(message.token);
  }

  /** It stays: it is kept in our hands until the end, without its body, or passed over from now on as not wanted. */
  keep({ message, from }: Taken): void {
    if (this.#passesOver) from.giveBack(message.token);
    else from.keep(message.token);
  }

  /** Removes it for good. Resolves with whether it is gone; false if it was lost before, and will come again. */
  remove(taken: Taken): Promise<boolean> {
    return taken.from.remove(taken.message.token);
  }

  /** Gives back everything. A second call does nothing. */
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
          this.#questions?.seen(message);
        }
        receiver.deliver(batch);
        // Now that something is known of them.
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
    const questions = this.#passesOver ? this.#questions : undefined;
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
