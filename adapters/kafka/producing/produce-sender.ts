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

interface IdentityEvents {
  identified(): void;
  /** Retrying would not help. */
  refused(error: MessagingError): void;
}

/** Gets producer identities: one for all partitions, and a new one for those that lost theirs. */
class ProducerIdentities {
  readonly #settings: ProducerSettings;
  readonly #events: IdentityEvents;
  #current: ProducerIdentity | undefined;
  #isAsking = false;
  /** The last refusal for lack of rights. */
  #forbidden: MessagingError | undefined;
  #failures = 0;
  #pause: Timer | undefined;
  #isClosed = false;

  constructor(settings: ProducerSettings, events: IdentityEvents) {
    this.#settings = settings;
    this.#events = events;
  }

  /**
   * Gets the first identity. Rejects if none comes within the request timeout. Resolves without one if the user may not
   * write: it may still read, and the refusal is reported when it sends.
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

  /** The newest identity if it is not `last`. Otherwise requests one and returns undefined. */
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

/** The producer's view of the cluster. */
interface ClusterView {
  /** The leader; undefined if it is unknown or no broker answers. */
  leaderOf(accumulator: PartitionAccumulator): number | undefined;
  /** The id of the current topic; empty if it has none. */
  topicIdOf(accumulator: PartitionAccumulator): TopicId;
  /** Requests new metadata of a topic. */
  requestUpdate(topic: string): void;
}

/**
 * Sends batches: one request per leader with all batches that are ready, and one batch per partition at a time. A batch
 * with an unclear outcome is sent again until the outcome is clear or its time is over.
 */
export class ProduceSender {
  readonly #settings: ProducerSettings;
  readonly #reports: DeliveryReports;
  readonly #view: ClusterView;
  readonly #identities: ProducerIdentities;
  /** Accumulators that may have something to send. */
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

  /** Gets the first identity. Rejects if no broker answers. */
  open(): Promise<void> {
    return this.#identities.open();
  }

  close(): void {
    this.#isClosed = true;
    this.#ready.clear();
    this.#identities.close();
  }

  /** Marks an accumulator as ready; it is sent at the end of this turn, with all others. */
  ready(accumulator: PartitionAccumulator): void {
    this.#ready.add(accumulator);
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    afterCurrentTurn(() => {
      this.#isFlushing = false;
      this.flush();
    });
  }

  /** Ends the pause of an accumulator whose leader is known again, if an early attempt may succeed. */
  found(accumulator: PartitionAccumulator, node: number | undefined): void {
    // A first failure is mostly a moved leader or a broken socket, which new metadata resolves.
    if (accumulator.isLost && node !== undefined && (accumulator.attempts <= 1 || node !== accumulator.node))
      this.wake(accumulator);
  }

  /** Ends an accumulator's pause. */
  wake(accumulator: PartitionAccumulator): void {
    if (this.#endPause(accumulator)) this.ready(accumulator);
  }

  /** Sends what is ready, then calls the delivery reports. */
  flush(): void {
    const byNode = Map.groupBy(this.#ready, (accumulator) => this.#nodeFor(accumulator));
    this.#ready.clear();
    for (const [node, accumulators] of byNode) if (node !== undefined) void this.#send(node, accumulators);
    this.#reports.report();
  }

  /** Rejects everything in an accumulator, unless its batch is in flight. */
  refuseAll(accumulator: PartitionAccumulator, error: MessagingError): void {
    if (accumulator.isInFlight) return;
    this.#endPause(accumulator);
    this.#refuse(accumulator, error);
    this.#reports.rejected(accumulator.dropQueue(), error);
  }

  /** Reports everything in an accumulator as `unknown`. */
  giveUp(accumulator: PartitionAccumulator, cause: unknown): void {
    this.#endPause(accumulator);
    this.#reports.unknown([...accumulator.drop(), ...accumulator.dropQueue()], cause);
  }

  /** The node for the accumulator's next batch; undefined if it cannot be sent now. */
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
    // Synchronous if nothing is compressed.
    const encoded = encodings.some((one) => one instanceof Promise) ? await Promise.all(encodings) : encodings;
    if (this.#isClosed) return;
    const sendings = (encoded as (Sending | undefined)[]).filter((sending) => sending !== undefined);
    for (const request of splitIntoRequests(sendings)) void this.#request(node, request);
  }

  /**
   * Encodes the batch, synchronously if it is not compressed. Undefined if encoding failed, in which case it is
   * refused.
   */
  #encode(accumulator: PartitionAccumulator): Sending | Promise<Sending | undefined> | undefined {
    const { clock } = this.#settings;
    const refuse = (error: unknown): undefined => {
      accumulator.isInFlight = false;
      this.#refuse(accumulator, unencodable(accumulator, error));
      this.ready(accumulator);
    };
    try {
      const encoded = accumulator.encode(clock.now(), this.#settings);
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
        if (isTooLarge(error) && accumulator.forceCompression(this.#settings)) return;
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

  /** Pauses an accumulator. `isLost` requests metadata meanwhile. Gives up when the deadline is over. */
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

  /** Drops the batch: `rejected`, or `unknown` if an earlier attempt may have stored it. */
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
