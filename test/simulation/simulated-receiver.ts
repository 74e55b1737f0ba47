import type {
  DeadLetterResult,
  DeliverySink,
  DeliveryToken,
  IncomingMessage,
  OutgoingMessage,
  Receiver,
  Settlement,
  SettleResult,
} from "../../core/adapter.ts";
import type { Address, WorkAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import type { Place, SimulatedBroker, Standing, Taker } from "./simulated-broker.ts";

/** What a receiver needs of its adapter. */
export interface Link {
  /** Changes with each connection; undefined while there is none. */
  readonly connection: object | undefined;
  /** The process was killed: nothing reaches it any more. */
  readonly dead: boolean;
  latency(): number;
  /** Whether an extension is to be late or lost. */
  extensionFails(): boolean;
}

export interface ReceiverOptions {
  readonly leaseMs: number | undefined;
  readonly lapsesTold: boolean;
  readonly acksUnanswered: boolean;
  readonly closeCounts: boolean;
  readonly movesDeadLetters: boolean;
}

interface Holding {
  readonly standing: Standing;
  readonly connection: object | undefined;
  leaseUntil: number;
  settled: boolean;
}

/** One consumer of a place, over all its reconnects. */
export class SimulatedReceiver implements Receiver, Taker {
  readonly leaseMs: number | undefined;
  readonly deadLetter?: NonNullable<Receiver["deadLetter"]>;
  readonly place: Place;
  readonly #broker: SimulatedBroker;
  readonly #link: Link;
  readonly #options: ReceiverOptions;
  readonly #sink: DeliverySink;
  readonly #unsettled = new Set<Holding>();
  #prefetch: number;
  #closed = false;
  /** Ends a hand-over that is under way. */
  #handedOver: (() => void) | undefined;

  constructor(
    broker: SimulatedBroker,
    place: Place,
    prefetch: number,
    link: Link,
    sink: DeliverySink,
    options: ReceiverOptions,
  ) {
    this.#broker = broker;
    this.place = place;
    this.#prefetch = prefetch;
    this.#link = link;
    this.#sink = sink;
    this.#options = options;
    this.leaseMs = options.leaseMs;
    if (options.movesDeadLetters) this.deadLetter = (token, letter) => this.#move(token as Holding, letter);
  }

  get room(): number {
    return Math.max(this.#prefetch - this.#unsettled.size, 0);
  }

  get asked(): number {
    return this.#prefetch;
  }

  attach(): void {
    if (this.#closed || this.place.takers.includes(this)) return;
    this.place.takers.push(this);
    this.#broker.stir(this.place);
  }

  /** The broker no longer knows this consumer: everything it held comes back, counted if so said. */
  detach(counted: boolean): void {
    const index = this.place.takers.indexOf(this);
    if (index >= 0) this.place.takers.splice(index, 1);
    for (const holding of this.#unsettled) this.#takeBack(holding, counted);
    this.#handedOver?.();
    this.#broker.stir(this.place);
  }

  /** Tells the engine that what it holds is gone. */
  lost(cause: MessagingError): void {
    if (!this.#closed) this.#sink.lost("all", cause);
  }

  /** Asks for everything back, for others to have it; what has not come by then is taken. */
  handOver(withinMs: number): void {
    const { place } = this;
    const index = place.takers.indexOf(this);
    if (index < 0 || this.#handedOver !== undefined || this.#link.connection === undefined) return;
    place.takers.splice(index, 1);
    place.handingOver++;
    const { time } = this.#broker;
    const over = (): void => {
      if (this.#handedOver !== over) return;
      this.#handedOver = undefined;
      place.handingOver--;
      const late = [...this.#unsettled];
      for (const holding of late) this.#takeBack(holding, false);
      const cause = new MessagingError("unreachable", "others have it now");
      if (late.length > 0 && !this.#closed && !this.#link.dead) this.#sink.lost(late, cause);
      this.#broker.stir(place);
      time.schedule(() => {
        if (!this.#link.dead && this.#link.connection !== undefined) this.attach();
      }, 10);
    };
    this.#handedOver = over;
    if (!this.#link.dead) this.#sink.revoke([...this.#unsettled]);
    time.schedule(over, this.#unsettled.size === 0 ? 0 : withinMs);
  }

  #takeBack(holding: Holding, counted: boolean): void {
    this.#unsettled.delete(holding);
    holding.settled = true;
    this.#broker.giveBack(holding.standing, counted);
  }

  take(batch: readonly Standing[]): void {
    const incoming = batch.map((standing) => this.#incoming(standing));
    // A broker that has not noticed yet that nobody is there delivers into the void.
    if (!this.#link.dead && this.#link.connection !== undefined) this.#sink.deliver(incoming);
  }

  #incoming(standing: Standing): IncomingMessage {
    const { connection } = this.#link;
    const holding: Holding = { standing, connection, leaseUntil: Number.POSITIVE_INFINITY, settled: false };
    this.#unsettled.add(holding);
    if (this.leaseMs !== undefined) this.#lease(holding, this.leaseMs);
    const { id, key, routingKey, headers, body, contentType, priority } = standing.message;
    const { redeliveries } = standing;
    return {
      token: holding,
      id,
      key,
      routingKey,
      headers,
      body,
      contentType,
      priority,
      redeliveries,
      native: undefined,
    };
  }

  #lease(holding: Holding, leaseMs: number): void {
    const { time } = this.#broker;
    holding.leaseUntil = time.now + leaseMs;
    time.schedule(() => {
      if (!holding.settled && time.now >= holding.leaseUntil) this.#lapse(holding);
    }, leaseMs);
  }

  #lapse(holding: Holding): void {
    this.#takeBack(holding, true);
    if (!this.#options.lapsesTold || this.#link.dead) return;
    this.#sink.lost([holding], new MessagingError("unreachable", "the lease ran out"));
  }

  /** Lets the lease of one delivery lapse. Returns whether there was one. */
  lapseOne(choose: (count: number) => number): boolean {
    const held = [...this.#unsettled];
    const holding = held[choose(held.length)];
    if (holding === undefined) return false;
    this.#lapse(holding);
    return true;
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    if (!this.#link.dead) this.#broker.stir(this.place);
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    return new Promise((resolve) => {
      if (this.#link.dead) return;
      const { connection } = this.#link;
      const written = batch.map(({ token }): SettleResult => {
        const holding = token as Holding;
        return holding.settled || holding.connection !== connection ? "fenced" : "settled";
      });
      if (this.#options.acksUnanswered) resolve(written);
      this.#broker.time.schedule(() => {
        // What was written before the process died arrives; what was cut off does not.
        const arrives = this.#link.dead || this.#link.connection === connection;
        const results = batch.map((settlement): SettleResult => (arrives ? this.#settle(settlement) : "fenced"));
        if (!this.#link.dead) resolve(results);
      }, this.#link.latency());
    });
  }

  #settle({ token, action }: Settlement): SettleResult {
    const holding = token as Holding;
    if (holding.settled) return "fenced";
    if (action === "requeue") {
      this.#takeBack(holding, false);
    } else {
      this.#unsettled.delete(holding);
      holding.settled = true;
      this.#broker.remove(holding.standing);
    }
    if (this.#unsettled.size === 0) this.#handedOver?.();
    return "settled";
  }

  /** The answer may be lost although the message was moved, and it may be moved after its process died. */
  #move(holding: Holding, letter: OutgoingMessage): Promise<DeadLetterResult> {
    return new Promise((resolve) => {
      if (this.#link.dead) return;
      const { connection } = this.#link;
      this.#broker.time.schedule(() => {
        const arrives = this.#link.dead || this.#link.connection === connection;
        const moved = arrives && !holding.settled;
        if (moved) {
          this.#broker.store({ kind: "dead-letters", of: workOf(this.place.address) }, letter);
          this.#settle({ token: holding, action: "ack" });
        }
        if (!this.#link.dead) resolve({ status: moved ? "settled" : "fenced" });
      }, this.#link.latency());
    });
  }

  extend(batch: readonly DeliveryToken[]): Promise<readonly boolean[]> {
    return new Promise((resolve) => {
      if (this.#link.dead) return;
      const fails = this.#link.extensionFails();
      this.#broker.time.schedule(
        () => {
          if (this.#link.dead) return;
          resolve(
            batch.map((token) => {
              const holding = token as Holding;
              if (holding.settled) return false;
              if (!fails && this.leaseMs !== undefined) this.#lease(holding, this.leaseMs);
              return true;
            }),
          );
        },
        this.#link.latency() * (fails ? 10 : 1),
      );
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#link.dead) return;
      this.#closed = true;
      this.#broker.time.schedule(() => {
        if (this.#link.dead) return;
        this.detach(this.#options.closeCounts);
        resolve();
      }, this.#link.latency());
    });
  }
}

function workOf(address: Address): WorkAddress {
  if (address.kind === "queue" || address.kind === "subscription") return address;
  throw new Error(`nothing is dead-lettered from ${address.kind}`);
}
