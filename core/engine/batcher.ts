import type { Adapter, SendReport, SendResult } from "../adapter.ts";
import type { Address } from "../address.ts";
import type { Clock, Random, Timer } from "../clock.ts";
import { afterCurrentTurn } from "../afterCurrentTurn.ts";
import type { Backlog } from "./backlog.ts";
import { OrderedBacklog, PlainBacklog } from "./backlog.ts";
import type { PendingSend } from "./pending-send.ts";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

/** Whether anything may be handed to the adapter now. */
export interface Gate {
  readonly open: boolean;
}

/**
 * Batches the messages of one address without a timer, after the batcher of the Go CDK (gocloud.dev/pubsub/batcher):
 * while fewer batches are in flight than the adapter wants, whatever is waiting goes at once; otherwise it gathers, and
 * a finished batch takes the next. A lone message waits for nothing, and batches grow with the load.
 *
 * A result of `unknown` puts the message back before all later ones, under its id, and pauses the address a little.
 */
export class Batcher {
  readonly #adapter: Adapter;
  readonly #address: Address;
  readonly #gate: Gate;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #backlog: Backlog;
  readonly #settled: (send: PendingSend) => void;
  #batchesInFlight = 0;
  #scheduled = false;
  #pause: Timer | undefined;
  #pauseMs = 0;

  /** `settled` is called once for each message that the adapter had and needs not be handed over again. */
  constructor(
    adapter: Adapter,
    address: Address,
    ordered: boolean,
    gate: Gate,
    clock: Clock,
    random: Random,
    settled: (send: PendingSend) => void,
  ) {
    this.#adapter = adapter;
    this.#address = address;
    this.#gate = gate;
    this.#clock = clock;
    this.#random = random;
    this.#backlog = ordered ? new OrderedBacklog(adapter.sendLimits.storesInOrder === true) : new PlainBacklog();
    this.#settled = settled;
  }

  push(send: PendingSend): void {
    this.#backlog.push(send);
    this.schedule();
  }

  /** Hands over what is waiting as soon as the callers of this turn have all been heard. */
  schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    afterCurrentTurn(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Lets go of messages that were answered while they waited. */
  prune(): void {
    this.#backlog.prune();
  }

  /** Ends a pause, because the connection is new. */
  wake(): void {
    this.close();
    this.#pauseMs = 0;
    this.schedule();
  }

  /** Takes back the timer of a pause. */
  close(): void {
    if (this.#pause !== undefined) this.#clock.cancel(this.#pause);
    this.#pause = undefined;
  }

  #flush(): void {
    const { maxBatchMessages, maxBatchBytes, maxBatchesInFlight } = this.#adapter.sendLimits;
    while (this.#gate.open && this.#pause === undefined && this.#batchesInFlight < maxBatchesInFlight) {
      const batch = this.#backlog.take(maxBatchMessages, maxBatchBytes);
      if (batch.length === 0) return;
      this.#hand(batch);
    }
  }

  #hand(batch: readonly PendingSend[]): void {
    this.#batchesInFlight++;
    const again: PendingSend[] = [];
    let left = batch.length;
    const report: SendReport = (index, result) => {
      const send = batch[index];
      if (left === 0 || send === undefined || !send.inFlight) return;
      if (this.#take(send, result)) again.push(send);
      if (--left === 0) this.#finish(batch, again);
    };
    for (const send of batch) send.handOver();
    this.#adapter.send(
      this.#address,
      batch.map((send) => send.message),
      report,
    );
  }

  #take(send: PendingSend, result: SendResult): boolean {
    if (send.take(result)) return true;
    if (result.status === "confirmed") this.#pauseMs = 0;
    this.#settled(send);
    return false;
  }

  #finish(batch: readonly PendingSend[], again: PendingSend[]): void {
    this.#batchesInFlight--;
    if (again.length > 1) {
      // Results come in any order; the messages go again in theirs.
      const returned = new Set(again);
      again = batch.filter((send) => returned.has(send));
    }
    this.#backlog.finish(batch, again);
    if (again.length > 0 && this.#gate.open) this.#rest();
    this.schedule();
  }

  #rest(): void {
    if (this.#pause !== undefined) return;
    this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, FIRST_PAUSE_MS), LONGEST_PAUSE_MS);
    this.#pause = this.#clock.schedule(
      () => {
        this.#pause = undefined;
        this.schedule();
      },
      this.#pauseMs * (0.5 + this.#random.fraction() / 2),
    );
  }
}
