import { afterCurrentTurn, type Timer } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import { operationError } from "../errors.ts";
import type { ErrorName, ProducerIdentity, TopicId } from "../port.ts";
import { outcomeFor, type PartitionAccumulator, type Sending, sendingOf, splitIntoRequests } from "./accumulator.ts";
import {
  type DeliveryReports,
  doubtfulError,
  isTooLarge,
  outcomeOf,
  type PendingRecord,
  type ProducerSettings,
  RETRY,
  refusal,
} from "./producer.ts";

const WHAT = "get an identity for producing";

/** What waits for an identity. */
interface IdentityEvents {
  identified(): void;
  /** There is none, and trying on would not help. */
  refused(error: MessagingError): void;
}

/** Gets producer identities from the cluster: one for all partitions, and another for those that gave theirs up. */
class ProducerIdentities {
  readonly #settings: ProducerSettings;
  readonly #events: IdentityEvents;
  #current: ProducerIdentity | undefined;
  #isAsking = false;
  /** That we may write nowhere, as Kafka answered last. */
  #forbidden: MessagingError | undefined;
  #failures = 0;
  #pause: Timer | undefined;
  #isClosed = false;

  constructor(settings: ProducerSettings, events: IdentityEvents) {
    this.#settings = settings;
    this.#events = events;
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
      this.#events.identified();
      return;
    }
    if (error.code === "unauthorized" || error.code === "unsupported") this.#events.refused(error);
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
  leaderOf(accumulator: PartitionAccumulator): number | undefined;
  /** The topic that has the name now; empty where it has no id. */
  topicIdOf(accumulator: PartitionAccumulator): TopicId;
  /** Asks anew about a topic. */
  requestUpdate(topic: string): void;
}

/**
 * Sends what stands in accumulators: to each leader whatever is ready for it in one request, from each accumulator one batch at a time.
 * A batch whose fate is not clear goes again, until it is clear or the time is up.
 */
export class ProduceSender {
  readonly #settings: ProducerSettings;
  readonly #reports: DeliveryReports;
  readonly #view: ClusterView;
  readonly #identities: ProducerIdentities;
  /** Lanes with something to send, as far as is known. */
  readonly #ready = new Set<PartitionAccumulator>();
  readonly #unidentified = new Set<PartitionAccumulator>();
  #isFlushing = false;
  #isClosed = false;

  constructor(settings: ProducerSettings, reports: DeliveryReports, view: ClusterView) {
    this.#settings = settings;
    this.#reports = reports;
    this.#view = view;
    this.#identities = new ProducerIdentities(settings, {
      identified: () => this.#identified(),
      refused: (error) => {
        for (const accumulator of this.#unidentified) this.refuseAll(accumulator, error);
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

  /** Notes that an accumulator has something to send, to go at the end of this turn, when all callers have been heard. */
  ready(accumulator: PartitionAccumulator): void {
    this.#ready.add(accumulator);
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    afterCurrentTurn(() => {
      this.#isFlushing = false;
      this.flush();
    });
  }

  /** Ends an accumulator's pause, if the node to go to now is worth a try before its time. */
  found(accumulator: PartitionAccumulator, node: number | undefined): void {
    // The first failure is mostly of a leader that moved or a socket that broke, and over with a new answer.
    if (accumulator.isLost && node !== undefined && (accumulator.attempts <= 1 || node !== accumulator.node))
      this.wake(accumulator);
  }

  /** Ends an accumulator's pause. */
  wake(accumulator: PartitionAccumulator): void {
    if (this.#endPause(accumulator)) this.ready(accumulator);
  }

  /** Sends what can go, and then tells what is to be told. */
  flush(): void {
    const byNode = Map.groupBy(this.#ready, (accumulator) => this.#nodeFor(accumulator));
    this.#ready.clear();
    for (const [node, accumulators] of byNode) if (node !== undefined) void this.#send(node, accumulators);
    this.#reports.report();
  }

  /** Gives up everything in an accumulator for good, unless its batch is under way. */
  refuseAll(accumulator: PartitionAccumulator, error: MessagingError): void {
    if (accumulator.isInFlight) return;
    this.#endPause(accumulator);
    this.#refuse(accumulator, error);
    this.#reports.rejected(accumulator.dropQueue(), error);
  }

  /** Gives up everything in an accumulator without saying that it is not stored. */
  giveUp(accumulator: PartitionAccumulator, cause: unknown): void {
    this.#endPause(accumulator);
    this.#reports.unknown([...accumulator.drop(), ...accumulator.dropQueue()], cause);
  }

  /** Where the accumulator's next batch is to go now; undefined if nowhere for now. */
  #nodeFor(accumulator: PartitionAccumulator): number | undefined {
    if (accumulator.isInFlight || accumulator.pause !== undefined || accumulator.isIdle || this.#isClosed)
      return undefined;
    const node = this.#view.leaderOf(accumulator);
    if (node === undefined) {
      accumulator.cause ??= leaderless(accumulator);
      this.#backOff(accumulator, true);
      return undefined;
    }
    if (!accumulator.needsIdentity) return node;
    const identity = this.#identities.newerThan(accumulator.identity);
    if (identity !== undefined) {
      accumulator.identify(identity);
      return node;
    }
    accumulator.cause ??= new MessagingError("unreachable", "Kafka has given no identity for producing yet");
    this.#unidentified.add(accumulator);
    this.#backOff(accumulator, false);
    return undefined;
  }

  #identified(): void {
    for (const accumulator of this.#unidentified) this.wake(accumulator);
    this.#unidentified.clear();
  }

  async #send(node: number, accumulators: readonly PartitionAccumulator[]): Promise<void> {
    for (const accumulator of accumulators) {
      accumulator.isInFlight = true;
      accumulator.node = node;
    }
    const encodings = accumulators.map((accumulator) => this.#encode(accumulator));
    // Without a turn in between where nothing is compressed.
    const encoded = encodings.some((one) => one instanceof Promise) ? await Promise.all(encodings) : encodings;
    if (this.#isClosed) return;
    const sendings = (encoded as (Sending | undefined)[]).filter((sending) => sending !== undefined);
    for (const request of splitIntoRequests(sendings)) void this.#request(node, request);
  }

  /** The batch to go out, at once where nothing is compressed; undefined if it could not be made and was refused. */
  #encode(accumulator: PartitionAccumulator): Sending | Promise<Sending | undefined> | undefined {
    const { clock, compression } = this.#settings;
    const refuse = (error: unknown): undefined => {
      accumulator.isInFlight = false;
      this.#refuse(accumulator, unencodable(accumulator, error));
      this.ready(accumulator);
    };
    try {
      const encoded = accumulator.encode(clock.now(), compression);
      const sending = (batch: Uint8Array): Sending => sendingOf(accumulator, this.#view.topicIdOf(accumulator), batch);
      return encoded instanceof Promise ? encoded.then(sending, refuse) : sending(encoded);
    } catch (error) {
      return refuse(error);
    }
  }

  async #request(node: number, sendings: readonly Sending[]): Promise<void> {
    const { connection, requestTimeoutMs } = this.#settings;
    const batches = sendings.map(({ batch }) => batch);
    let conclude: (accumulator: PartitionAccumulator) => void;
    try {
      const outcomes = await connection.produce(node, batches, Math.ceil(requestTimeoutMs / 2));
      conclude = (accumulator) => this.#answered(accumulator, outcomeFor(accumulator, outcomes));
    } catch (error) {
      conclude = (accumulator) => this.#unanswered(accumulator, error);
    }
    if (this.#isClosed) return;
    for (const { accumulator } of sendings) {
      accumulator.isInFlight = false;
      this.#ready.add(accumulator);
      conclude(accumulator);
    }
    this.flush();
  }

  #unanswered(accumulator: PartitionAccumulator, error: unknown): void {
    if (isMessagingError(error, "unsupported")) {
      this.#refuse(accumulator, error);
      return;
    }
    accumulator.tried(error, true);
    this.#backOff(accumulator, true);
  }

  #answered(accumulator: PartitionAccumulator, error: ErrorName): void {
    switch (outcomeOf(error)) {
      case "stored":
        this.#reports.confirmed(accumulator.stored());
        return;
      case "unrecognised":
        accumulator.tried(doubtfulError(error as string, accumulator), false);
        accumulator.forgetIdentity();
        if (accumulator.attempts > 1) this.#backOff(accumulator, false);
        return;
      case "divisible":
        if (accumulator.divide(isTooLarge(error))) return;
        if (isTooLarge(error) && accumulator.forceCompression(this.#settings.compression)) return;
        this.#refuse(accumulator, refusal(error as string, accumulator));
        return;
      case "refused":
        this.#refuse(accumulator, refusal(error as string, accumulator));
        return;
      case "missing":
        accumulator.tried(doubtfulError(error as string, accumulator), false);
        this.#backOff(accumulator, true);
        return;
      case "doubtful":
        accumulator.tried(doubtfulError(error as string, accumulator), true);
        this.#backOff(accumulator, true);
    }
  }

  /** Has an accumulator wait a little, and asks where to go meanwhile if it is `lost`; gives it up if its time is over. */
  #backOff(accumulator: PartitionAccumulator, isLost: boolean): void {
    const { clock, random } = this.#settings;
    const left = accumulator.deadline - clock.monotonic();
    if (left <= 0) {
      this.giveUp(accumulator, accumulator.cause);
      return;
    }
    const ms = Math.min(left, backoffMs(++accumulator.backoffs, RETRY, random));
    accumulator.isLost = isLost;
    accumulator.pause = clock.schedule(() => {
      accumulator.pause = undefined;
      this.ready(accumulator);
    }, ms);
    if (isLost) this.#view.requestUpdate(accumulator.topic);
  }

  #endPause(accumulator: PartitionAccumulator): boolean {
    if (accumulator.pause === undefined) return false;
    this.#settings.clock.cancel(accumulator.pause);
    accumulator.pause = undefined;
    return true;
  }

  /** Gives up the batch: `rejected` only if no earlier try may have stored it. */
  #refuse(accumulator: PartitionAccumulator, error: MessagingError): void {
    const { isDoubtful } = accumulator;
    const records: readonly PendingRecord[] = accumulator.drop();
    if (isDoubtful) this.#reports.unknown(records, error);
    else this.#reports.rejected(records, error);
  }
}

function leaderless({ topic, partition }: PartitionAccumulator): MessagingError {
  return new MessagingError(
    "unreachable",
    `partition ${partition} of topic "${topic}" on Kafka has no leader; see that its brokers run`,
  );
}

function unencodable({ topic }: PartitionAccumulator, error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("invalid", `messages for topic "${topic}" cannot be made into a batch`, { cause: error });
}
