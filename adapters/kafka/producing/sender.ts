import { afterCurrentTurn, type Timer } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import { operationError } from "../errors.ts";
import type { ErrorName, ProducerIdentity, TopicId } from "../port.ts";
import { inRequests, type Lane, outcomeFor, type Sending, sendingOf } from "./batches.ts";
import {
  type Answers,
  doubt,
  isOfSize,
  type PendingRecord,
  type ProducerSettings,
  RETRY,
  refusal,
  verdictOf,
} from "./producer.ts";

const WHAT = "get an identity for producing";

/** What waits for an identity. */
interface IdentityOwner {
  identified(): void;
  /** There is none, and trying on would not help. */
  refused(error: MessagingError): void;
}

/** Gets producer identities from the cluster: one for all partitions, and another for those that gave theirs up. */
class Identities {
  readonly #settings: ProducerSettings;
  readonly #owner: IdentityOwner;
  #current: ProducerIdentity | undefined;
  #isAsking = false;
  /** That we may write nowhere, as Kafka answered last. */
  #forbidden: MessagingError | undefined;
  #failures = 0;
  #pause: Timer | undefined;
  #isClosed = false;

  constructor(settings: ProducerSettings, owner: IdentityOwner) {
    this.#settings = settings;
    this.#owner = owner;
  }

  /**
   * Gets the first. Rejects if there is none within the time of a request. Resolves without one where it is refused for
   * lack of rights: who may write nowhere may still read, and hears of it when something is to be written.
   */
  async open(): Promise<void> {
    const { clock, requestTimeoutMs } = this.#settings;
    const deadline = clock.monotonic() + requestTimeoutMs;
    for (let failures = 1; ; failures++) {
      const error = await this.#ask();
      if (error === undefined || error === this.#forbidden) return;
      const pauseMs = backoffMs(failures, RETRY, this.#settings.random);
      if (this.#isClosed || !isMessagingError(error, "unreachable") || clock.monotonic() + pauseMs > deadline)
        throw error;
      await new Promise<void>((resolve) => clock.schedule(resolve, pauseMs));
    }
  }

  /** The newest identity if it is not `last`; otherwise one is asked for, and undefined returned until then. */
  newerThan(last: ProducerIdentity | undefined): ProducerIdentity | undefined {
    if (this.#current !== last) return this.#current;
    void this.#obtain();
    return undefined;
  }

  close(): void {
    this.#isClosed = true;
    if (this.#pause !== undefined) this.#settings.clock.cancel(this.#pause);
  }

  async #obtain(): Promise<void> {
    if (this.#isAsking || this.#pause !== undefined) return;
    this.#isAsking = true;
    const error = await this.#ask();
    this.#isAsking = false;
    if (this.#isClosed) return;
    if (error === undefined) {
      this.#failures = 0;
      this.#owner.identified();
      return;
    }
    if (error.code === "unauthorized" || error.code === "unsupported") this.#owner.refused(error);
    this.#pause = this.#settings.clock.schedule(
      () => {
        this.#pause = undefined;
      },
      backoffMs(++this.#failures, RETRY, this.#settings.random),
    );
  }

  async #ask(): Promise<MessagingError | undefined> {
    try {
      const identity = await this.#settings.connection.producerIdentity();
      if (identity.error !== undefined) {
        const error = operationError(identity.error, WHAT, "try again");
        if (error.code === "unauthorized") this.#forbidden = error;
        return error;
      }
      this.#current = identity;
      return undefined;
    } catch (error) {
      return error as MessagingError;
    }
  }
}

/** What is known of the cluster. */
interface ClusterView {
  /** The node to write to; undefined while there is none, or nobody answers. */
  leaderOf(lane: Lane): number | undefined;
  /** The topic that has the name now; empty where it has no id. */
  topicIdOf(lane: Lane): TopicId;
  /** Asks anew about a topic. */
  want(topic: string): void;
}

/**
 * Sends what stands in lanes: to each leader whatever is ready for it in one request, from each lane one batch at a time.
 * A batch whose fate is not clear goes again, until it is clear or the time is up.
 */
export class LaneSender {
  readonly #settings: ProducerSettings;
  readonly #answers: Answers;
  readonly #view: ClusterView;
  readonly #identities: Identities;
  /** Lanes with something to send, as far as is known. */
  readonly #ready = new Set<Lane>();
  readonly #unidentified = new Set<Lane>();
  #isFlushing = false;
  #isClosed = false;

  constructor(settings: ProducerSettings, answers: Answers, view: ClusterView) {
    this.#settings = settings;
    this.#answers = answers;
    this.#view = view;
    this.#identities = new Identities(settings, {
      identified: () => this.#identified(),
      refused: (error) => {
        for (const lane of this.#unidentified) this.refuseAll(lane, error);
        this.#unidentified.clear();
        this.flush();
      },
    });
  }

  /** Gets an identity, where there may be one. Rejects if nobody answers. */
  open(): Promise<void> {
    return this.#identities.open();
  }

  close(): void {
    this.#isClosed = true;
    this.#ready.clear();
    this.#identities.close();
  }

  /** Notes that a lane has something to send, to go at the end of this turn, when all callers have been heard. */
  ready(lane: Lane): void {
    this.#ready.add(lane);
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    afterCurrentTurn(() => {
      this.#isFlushing = false;
      this.flush();
    });
  }

  /** Ends a lane's pause, if the node to go to now is worth a try before its time. */
  found(lane: Lane, node: number | undefined): void {
    // The first failure is mostly of a leader that moved or a socket that broke, and over with a new answer.
    if (lane.isLost && node !== undefined && (lane.attempts <= 1 || node !== lane.node)) this.wake(lane);
  }

  /** Ends a lane's pause. */
  wake(lane: Lane): void {
    if (this.#endPause(lane)) this.ready(lane);
  }

  /** Sends what can go, and then tells what is to be told. */
  flush(): void {
    const byNode = Map.groupBy(this.#ready, (lane) => this.#nodeFor(lane));
    this.#ready.clear();
    for (const [node, lanes] of byNode) if (node !== undefined) void this.#send(node, lanes);
    this.#answers.report();
  }

  /** Gives up everything in a lane for good, unless its batch is under way. */
  refuseAll(lane: Lane, error: MessagingError): void {
    if (lane.isInFlight) return;
    this.#endPause(lane);
    this.#refuse(lane, error);
    this.#answers.rejected(lane.dropQueue(), error);
  }

  /** Gives up everything in a lane without saying that it is not stored. */
  giveUp(lane: Lane, cause: unknown): void {
    this.#endPause(lane);
    this.#answers.unknown([...lane.drop(), ...lane.dropQueue()], cause);
  }

  /** Where the lane's next batch is to go now; undefined if nowhere for now. */
  #nodeFor(lane: Lane): number | undefined {
    if (lane.isInFlight || lane.pause !== undefined || lane.isIdle || this.#isClosed) return undefined;
    const node = this.#view.leaderOf(lane);
    if (node === undefined) {
      lane.cause ??= leaderless(lane);
      this.#rest(lane, true);
      return undefined;
    }
    if (!lane.needsIdentity) return node;
    const identity = this.#identities.newerThan(lane.identity);
    if (identity !== undefined) {
      lane.identify(identity);
      return node;
    }
    lane.cause ??= new MessagingError("unreachable", "Kafka has given no identity for producing yet");
    this.#unidentified.add(lane);
    this.#rest(lane, false);
    return undefined;
  }

  #identified(): void {
    for (const lane of this.#unidentified) this.wake(lane);
    this.#unidentified.clear();
  }

  async #send(node: number, lanes: readonly Lane[]): Promise<void> {
    for (const lane of lanes) {
      lane.isInFlight = true;
      lane.node = node;
    }
    const encodings = lanes.map((lane) => this.#encode(lane));
    // Without a turn in between where nothing is compressed.
    const encoded = encodings.some((one) => one instanceof Promise) ? await Promise.all(encodings) : encodings;
    if (this.#isClosed) return;
    const sendings = (encoded as (Sending | undefined)[]).filter((sending) => sending !== undefined);
    for (const request of inRequests(sendings)) void this.#request(node, request);
  }

  /** The batch to go out, at once where nothing is compressed; undefined if it could not be made and was refused. */
  #encode(lane: Lane): Sending | Promise<Sending | undefined> | undefined {
    const { clock, compression } = this.#settings;
    const refuse = (error: unknown): undefined => {
      lane.isInFlight = false;
      this.#refuse(lane, unencodable(lane, error));
      this.ready(lane);
    };
    try {
      const encoded = lane.encode(clock.now(), compression);
      const sending = (batch: Uint8Array): Sending => sendingOf(lane, this.#view.topicIdOf(lane), batch);
      return encoded instanceof Promise ? encoded.then(sending, refuse) : sending(encoded);
    } catch (error) {
      return refuse(error);
    }
  }

  async #request(node: number, sendings: readonly Sending[]): Promise<void> {
    const { connection, requestTimeoutMs } = this.#settings;
    const batches = sendings.map(({ batch }) => batch);
    let conclude: (lane: Lane) => void;
    try {
      const outcomes = await connection.produce(node, batches, Math.ceil(requestTimeoutMs / 2));
      conclude = (lane) => this.#answered(lane, outcomeFor(lane, outcomes));
    } catch (error) {
      conclude = (lane) => this.#unanswered(lane, error);
    }
    if (this.#isClosed) return;
    for (const { lane } of sendings) {
      lane.isInFlight = false;
      this.#ready.add(lane);
      conclude(lane);
    }
    this.flush();
  }

  #unanswered(lane: Lane, error: unknown): void {
    if (isMessagingError(error, "unsupported")) {
      this.#refuse(lane, error);
      return;
    }
    lane.tried(error, true);
    this.#rest(lane, true);
  }

  #answered(lane: Lane, error: ErrorName): void {
    switch (verdictOf(error)) {
      case "stored":
        this.#answers.confirmed(lane.stored());
        return;
      case "unrecognised":
        lane.tried(doubt(error as string, lane), false);
        lane.forgetIdentity();
        if (lane.attempts > 1) this.#rest(lane, false);
        return;
      case "divisible":
        if (lane.divide(isOfSize(error))) return;
        if (isOfSize(error) && lane.squeeze(this.#settings.compression)) return;
        this.#refuse(lane, refusal(error as string, lane));
        return;
      case "refused":
        this.#refuse(lane, refusal(error as string, lane));
        return;
      case "missing":
        lane.tried(doubt(error as string, lane), false);
        this.#rest(lane, true);
        return;
      case "doubtful":
        lane.tried(doubt(error as string, lane), true);
        this.#rest(lane, true);
    }
  }

  /** Has a lane wait a little, and asks where to go meanwhile if it is `lost`; gives it up if its time is over. */
  #rest(lane: Lane, isLost: boolean): void {
    const { clock, random } = this.#settings;
    const left = lane.deadline - clock.monotonic();
    if (left <= 0) {
      this.giveUp(lane, lane.cause);
      return;
    }
    const ms = Math.min(left, backoffMs(++lane.rests, RETRY, random));
    lane.isLost = isLost;
    lane.pause = clock.schedule(() => {
      lane.pause = undefined;
      this.ready(lane);
    }, ms);
    if (isLost) this.#view.want(lane.topic);
  }

  #endPause(lane: Lane): boolean {
    if (lane.pause === undefined) return false;
    this.#settings.clock.cancel(lane.pause);
    lane.pause = undefined;
    return true;
  }

  /** Gives up the batch: `rejected` only if no earlier try may have stored it. */
  #refuse(lane: Lane, error: MessagingError): void {
    const { isDoubtful } = lane;
    const records: readonly PendingRecord[] = lane.drop();
    if (isDoubtful) this.#answers.unknown(records, error);
    else this.#answers.rejected(records, error);
  }
}

function leaderless({ topic, partition }: Lane): MessagingError {
  return new MessagingError(
    "unreachable",
    `partition ${partition} of topic "${topic}" on Kafka has no leader; see that its brokers run`,
  );
}

function unencodable({ topic }: Lane, error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("invalid", `messages for topic "${topic}" cannot be made into a batch`, { cause: error });
}
