import type { Receipt } from "../../core/broker.ts";
import { internalsOf } from "../../core/broker-internals.ts";
import type { Clock } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { ackScope, type BarrierAcks } from "./barrier-acks.ts";
import type { BrokerPair } from "./broker-pair.ts";
import { Barrier } from "./carried.ts";
import type { Follower } from "./follower.ts";
import { HeldKeys, InFlight } from "./held-keys.ts";
import type { Plan } from "./plan.ts";
import type { Recording } from "./recording.ts";
import {
  bucketOf,
  epochOf,
  epochOfMove,
  hasBucket,
  isJournaled,
  type MigrationState,
  type Side,
  shareOf,
  sideAt,
} from "./state.ts";

/** A barrier may be lost, purged or taken by a foreign consumer: it is sent again. */
const RESEND_BARRIER_MS = 5_000;

/** The destination of a message. */
export interface Target {
  readonly kind: "queue" | "topic";
  readonly name: string;
}

/** A message to route. */
export interface Routed {
  readonly to: Target;
  readonly where: string;
  readonly id: string;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  readonly ordered: boolean;
  readonly timeoutMs: number;
  /** Sends to a side, with the epoch as a header if the destination is ordered. */
  readonly send: (side: Side, timeoutMs: number, epoch: number | undefined) => Promise<Receipt>;
}

/** The parts of {@link Router}. */
interface RouterParts {
  readonly plan: Plan;
  readonly clock: Clock;
  readonly follower: () => Follower;
  readonly barrierAcks: BarrierAcks;
  readonly recording: Recording;
  readonly pair: BrokerPair;
  readonly maxHeld: number;
}

/** Decides to which broker a message goes, and when. */
export class Router {
  readonly #parts: RouterParts;
  readonly #held: HeldKeys;
  readonly #inFlight = new InFlight();
  /** When each barrier was last sent. */
  readonly #barrierSentAt = new Map<string, number>();

  constructor(parts: RouterParts) {
    this.#parts = parts;
    this.#held = new HeldKeys(parts.clock, parts.maxHeld);
  }

  /** Sends that wait while their keys move. */
  get waiting(): number {
    return this.#held.count;
  }

  route(message: Routed): Promise<Receipt> {
    const { key, id, ordered, to, where } = message;
    const follower = this.#parts.follower();
    const refused = this.#refusal(where);
    if (refused !== undefined) return Promise.reject(refused);
    const bucket = bucketOf(key ?? id);
    if (!ordered || key === undefined) {
      const state = follower.state as MigrationState;
      return this.#send(message, sideAt(state.shares, epochOf(state), bucket), bucket, undefined, message.timeoutMs);
    }
    return this.#held.send({
      queueName: `${to.kind} ${to.name} ${key}`,
      where,
      timeoutMs: message.timeoutMs,
      side: () => (follower.isFresh ? this.#sideFor(message, key, bucket) : undefined),
      send: (side, timeoutMs) => {
        const state = follower.state as MigrationState;
        return this.#send(message, side, bucket, side === "to" ? epochOf(state) : undefined, timeoutMs);
      },
    });
  }

  #refusal(where: string): MessagingError | undefined {
    const follower = this.#parts.follower();
    if (follower.state !== undefined && follower.isFresh) return undefined;
    const what = `${where}: the state of migration "${this.#parts.plan.name}" could not be read for too long`;
    return new MessagingError(
      "closed",
      `${what}, and other instances may follow a newer state; it was not sent. Check the state store, and send it again`,
    );
  }

  /** The side of a key; undefined while the key moves. */
  #sideFor(message: Routed, key: string, bucket: number): Side | undefined {
    const state = this.#parts.follower().state as MigrationState;
    const { shares, pending, drained, unordered } = state;
    const side = sideAt(shares, epochOf(state), bucket);
    // No instance sends a key that is about to move until all have stopped. Then its messages on the old side have an end.
    if (pending !== null && hasBucket(pending.share, bucket) !== (side === "to")) return undefined;
    const moveEpoch = epochOfMove(shares, epochOf(state), bucket);
    // On the new side, consumers wait for the key's old messages. On the way back, publishers do: two sides never wait for
    // each other.
    if (side === "to" || moveEpoch === 0 || drained.to >= moveEpoch || unordered >= moveEpoch) return side;
    return this.#isDrainedAtNew(message, key, moveEpoch) ? side : undefined;
  }

  /** Whether everything of a key that was published to the new side before `moveEpoch` is handled. */
  #isDrainedAtNew(message: Routed, key: string, moveEpoch: number): boolean {
    const { plan, barrierAcks } = this.#parts;
    const scopes = plan.receivers(message.to, message.routingKey).map((source) => ackScope("to", source, key));
    const open = scopes.filter((scope) => !barrierAcks.has(scope, moveEpoch));
    if (open.length === 0) return true;
    const queueName = `${message.to.kind} ${message.to.name} ${key}`;
    for (const scope of open) barrierAcks.watch(scope, moveEpoch, () => this.#held.retry(queueName));
    if (!this.#parts.follower().isDraining("to"))
      this.sendBarrier("to", message.to, key, message.routingKey, `${open.join()} ${moveEpoch}`);
    return false;
  }

  /**
   * Sends a barrier behind the last message of a key at a side. `waiter` identifies who waits for it. For the same waiter it
   * is sent again only after a while.
   */
  sendBarrier(side: Side, to: Target, key: string, routingKey: string | undefined, waiter: string): void {
    const { clock, pair, follower } = this.#parts;
    const now = clock.monotonic();
    const before = this.#barrierSentAt.get(waiter);
    if (before !== undefined && now - before < RESEND_BARRIER_MS) return;
    this.#barrierSentAt.delete(waiter);
    for (const [other, at] of this.#barrierSentAt) {
      if (now - at < RESEND_BARRIER_MS) break;
      this.#barrierSentAt.delete(other);
    }
    this.#barrierSentAt.set(waiter, now);
    const state = follower().state;
    const broker = pair.get(side);
    if (state === undefined || broker === undefined) return;
    const { makeId, sendCopy } = internalsOf(broker, "migration");
    const body = new Barrier(epochOf(state)).toBytes();
    const sent = sendCopy(to, true, {
      id: makeId(),
      key,
      routingKey,
      headers: Object.freeze(Object.create(null)),
      body,
      contentType: Barrier.contentType,
      size: body.length,
      priority: 0,
      delayMs: 0,
      ttlMs: undefined,
    });
    // After a failure, the next check sends it again.
    sent.catch(() => this.#barrierSentAt.delete(waiter));
  }

  async #send(
    message: Routed,
    side: Side,
    bucket: number,
    epoch: number | undefined,
    timeoutMs: number,
  ): Promise<Receipt> {
    const { recording, plan, follower } = this.#parts;
    const refused = this.#refusal(message.where);
    if (refused !== undefined) throw refused;
    const most = Math.min(timeoutMs, follower().longestSendMs);
    const sent = message.send(side, most, epoch);
    const noted = recording.isOn && isJournaled(follower().state as MigrationState);
    const receipt = await (message.ordered ? this.#inFlight.track(side, bucket, sent) : sent);
    if (noted) {
      const receivers = plan.receivers(message.to, message.routingKey);
      await Promise.all(receivers.map((source) => recording.mark(source, receipt.id, "published")));
    }
    return receipt;
  }

  /** Acts by a new state at once. Resolves when no send to the side that its key leaves is in progress. */
  async takeOver(state: MigrationState): Promise<void> {
    this.#held.retry();
    const { pending } = state;
    if (pending === null || pending.share === shareOf(state)) return;
    await this.#inFlight.drained((bucket, side) => hasBucket(pending.share, bucket) !== (side === "to"));
  }

  /** Checks waiting sends again. */
  retry(): void {
    this.#held.retry();
  }

  close(): void {
    this.#held.close();
    this.#barrierSentAt.clear();
  }
}
