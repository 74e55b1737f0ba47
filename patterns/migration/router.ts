import type { Receipt } from "../../core/broker.ts";
import { internalsOf } from "../../core/broker-internals.ts";
import type { Clock } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { ackScope, type BarrierAcks } from "./barrier-acks.ts";
import type { BrokerPair } from "./broker-pair.ts";
import { bucketOf, hasBucket } from "./buckets.ts";
import { Barrier } from "./carried.ts";
import type { Follower } from "./follower.ts";
import { HeldKeys, InFlight } from "./held-keys.ts";
import type { Plan } from "./plan.ts";
import type { Recording } from "./recording.ts";
import { cameWith, epochOf, isJournaled, type MigrationState, type Side, shareOf, sideAt } from "./state.ts";

/** A barrier that was lost, purged or taken by a stranger is sent again. */
const MARK_AGAIN_MS = 5_000;

/** Where something is sent to. */
export interface Target {
  readonly kind: "queue" | "topic";
  readonly name: string;
}

/** One message for either side. */
export interface Routed {
  readonly to: Target;
  readonly where: string;
  readonly id: string;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  readonly ordered: boolean;
  readonly timeoutMs: number;
  /** Hands it over, stamped with an epoch where order is kept. */
  readonly send: (side: Side, timeoutMs: number, epoch: number | undefined) => Promise<Receipt>;
}

/** What a router works with. */
interface RouterParts {
  readonly plan: Plan;
  readonly clock: Clock;
  readonly follower: () => Follower;
  readonly barrierAcks: BarrierAcks;
  readonly recording: Recording;
  readonly pair: BrokerPair;
  readonly maxHeld: number;
}

/** Decides for each message which broker it goes to, and when. */
export class Router {
  readonly #parts: RouterParts;
  readonly #held: HeldKeys;
  readonly #flying = new InFlight();
  /** When a barrier was sent last, for what is waited for. */
  readonly #marked = new Map<string, number>();

  constructor(parts: RouterParts) {
    this.#parts = parts;
    this.#held = new HeldKeys(parts.clock, parts.maxHeld);
  }

  /** Sends that wait for their keys. */
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
      `${what}, and another instance may have moved on; it was not sent. See to the state store, and send it again`,
    );
  }

  /** Undefined while the key is on its way from one side to the other. */
  #sideFor(message: Routed, key: string, bucket: number): Side | undefined {
    const state = this.#parts.follower().state as MigrationState;
    const { shares, pending, drained, unordered } = state;
    const side = sideAt(shares, epochOf(state), bucket);
    // Nobody sends a key that is about to move, until nobody does: then its past on the old side has an end.
    if (pending !== null && hasBucket(pending.share, bucket) !== (side === "to")) return undefined;
    const came = cameWith(shares, epochOf(state), bucket);
    // On the new side its consumers wait for the key's past; going back, its senders do, so that one side never waits for
    // the other while the other waits for it.
    if (side === "to" || came === 0 || drained.to >= came || unordered >= came) return side;
    return this.#isBack(message, key, came) ? side : undefined;
  }

  /** Whether everything of a key that was published to the new side before `came` is done there. */
  #isBack(message: Routed, key: string, came: number): boolean {
    const { plan, barrierAcks } = this.#parts;
    const scopes = plan.takers(message.to, message.routingKey).map((source) => ackScope("to", source, key));
    const open = scopes.filter((scope) => !barrierAcks.has(scope, came));
    if (open.length === 0) return true;
    const queueName = `${message.to.kind} ${message.to.name} ${key}`;
    for (const scope of open) barrierAcks.want(scope, came, () => this.#held.retry(queueName));
    if (!this.#parts.follower().isQuiet("to"))
      this.mark("to", message.to, key, message.routingKey, `${open.join()} ${came}`);
    return false;
  }

  /**
   * Sends a barrier behind the last message of a key at a side. `what` is what waits for it: while the same does, it is sent
   * again only after a while.
   */
  mark(side: Side, to: Target, key: string, routingKey: string | undefined, what: string): void {
    const { clock, pair, follower } = this.#parts;
    const now = clock.monotonic();
    const before = this.#marked.get(what);
    if (before !== undefined && now - before < MARK_AGAIN_MS) return;
    this.#marked.delete(what);
    for (const [other, at] of this.#marked) {
      if (now - at < MARK_AGAIN_MS) break;
      this.#marked.delete(other);
    }
    this.#marked.set(what, now);
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
    // One that did not arrive is sent again by whoever still waits.
    sent.catch(() => this.#marked.delete(what));
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
    const receipt = await (message.ordered ? this.#flying.track(side, bucket, sent) : sent);
    if (noted) {
      const takers = plan.takers(message.to, message.routingKey);
      await Promise.all(takers.map((source) => recording.mark(source, receipt.id, "published")));
    }
    return receipt;
  }

  /**
   * Acts by a new state from now on. Resolves when no message is under way that goes to where its key will not be any
   * more.
   */
  async takeOver(state: MigrationState): Promise<void> {
    this.#held.retry();
    const { pending } = state;
    if (pending === null || pending.share === shareOf(state)) return;
    await this.#flying.landed((bucket, side) => hasBucket(pending.share, bucket) !== (side === "to"));
  }

  /** The state can be read again. */
  retry(): void {
    this.#held.retry();
  }

  close(): void {
    this.#held.close();
    this.#marked.clear();
  }
}
