import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import type { Depth, StartPosition } from "../../core/adapter.ts";
import { addressName, workAddress } from "../../core/address.ts";
import type { BatchEntry, Broker, BrokerStatus, Consumer, Receipt } from "../../core/broker.ts";
import { type BrokerInternals, INTERNALS } from "../../core/broker-internals.ts";
import {
  checkInteger,
  checkName,
  checkOptions,
  clockOf,
  LONGEST_MS,
  optionalText,
  randomOf,
} from "../../core/checks.ts";
import { type Clock, StopTime } from "../../core/clock.ts";
import { Slots } from "../../core/concurrency.ts";
import { DEFAULT_STOP_MS } from "../../core/consume/consumer.ts";
import type { Handler, Middleware } from "../../core/delivery.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import { observe } from "../../core/foreign.ts";
import { messageIds } from "../../core/message-ids.ts";
import {
  type BrokerOptions,
  type ConsumeOptions,
  checkBrokerOptions,
  DEFAULT_CONCURRENCY,
  type PublishOptions,
  type SendOptions,
  type StartOptions,
  type StopOptions,
  type SubscribeOptions,
} from "../../core/options.ts";
import { sendEach } from "../../core/publish/publisher.ts";
import { DEFAULT_SEND_MS } from "../../core/publish/publisher-engine.ts";
import { startWait } from "../../core/start.ts";
import { BarrierAlignment } from "./barrier.ts";
import { BarrierAcks } from "./barrier-acks.ts";
import { BrokerPair } from "./broker-pair.ts";
import { CarriedDestinations } from "./carried.ts";
import type { Migration, MigrationControl, MigrationEvent, MigrationOptions } from "./contract.ts";
import { Control } from "./control.ts";
import { Follower } from "./follower.ts";
import { handlerAt, MovingConsumer } from "./moving-consumer.ts";
import { checkKind, MovingSends, movingInternals } from "./moving-sends.ts";
import { Plan, subscriptionOptions } from "./plan.ts";
import { Recording } from "./recording.ts";
import { Router, type Target } from "./router.ts";
import { type MigrationState, type Side, usedBrokers } from "./state.ts";

const OPTIONS = [
  "from",
  "to",
  "destinations",
  "state",
  "name",
  "idempotency",
  "broker",
  "instance",
  "leaseMs",
  "pollMs",
  "journal",
  "maxHeld",
  "onMigrationEvent",
];
const DEFAULT_LEASE_MS = 30_000;
const DEFAULT_POLL_MS = 1_000;
const DEFAULT_HELD = 10_000;
const SHORTEST_LEASE_MS = 300;
const POLLS_PER_LEASE = 6;

/**
 * Makes a broker object that moves from one broker to another while it is used; see {@link Migration}. It connects in `start`,
 * and only to the brokers that the state names. Throws `invalid` for wrong options.
 */
export function migration<FromNative, ToNative>(
  options: MigrationOptions<FromNative | ToNative>,
): Migration<FromNative | ToNative> {
  const where = "migration";
  checkOptions(where, options, OPTIONS);
  const { idempotency, journal = "ids", broker = {}, onMigrationEvent } = options;
  if (idempotency !== "waived" && typeof idempotency !== "function") {
    throw new MessagingError(
      "invalid",
      `${where} { idempotency } takes middleware such as idempotent(store), or "waived", because a message may arrive from both brokers`,
    );
  }
  if (journal !== "ids" && journal !== "waived") {
    throw new MessagingError("invalid", `${where} { journal } takes "ids" or "waived", not ${String(journal)}`);
  }
  if (onMigrationEvent !== undefined && typeof onMigrationEvent !== "function") {
    throw new MessagingError("invalid", `${where} { onMigrationEvent } takes a function`);
  }
  const { leaseMs = DEFAULT_LEASE_MS, maxHeld = DEFAULT_HELD } = options;
  checkInteger(`${where} { leaseMs }`, leaseMs, SHORTEST_LEASE_MS, LONGEST_MS);
  const longestPoll = Math.floor(leaseMs / POLLS_PER_LEASE);
  const { pollMs = Math.min(DEFAULT_POLL_MS, longestPoll) } = options;
  checkInteger(`${where} { pollMs }, at most a sixth of leaseMs,`, pollMs, 1, longestPoll);
  checkInteger(`${where} { maxHeld }`, maxHeld, 1);
  checkBrokerOptions(broker);
  if ("destinations" in broker) {
    throw new MessagingError("invalid", `${where} { broker.destinations } is not allowed: use { destinations }`);
  }
  const instance =
    optionalText(where, "instance", options.instance) ?? `${hostname()}.${process.pid}.${randomUUID().slice(0, 8)}`;
  return new MovingBroker<FromNative | ToNative>({
    plan: new Plan(where, options),
    idempotency: idempotency === "waived" ? undefined : idempotency,
    broker,
    instance,
    leaseMs,
    pollMs,
    journaled: journal === "ids",
    maxHeld,
    emit: (event) => observe(onMigrationEvent, event),
  });
}

/** The checked options of a moving broker. */
interface MovingParts {
  readonly plan: Plan;
  readonly idempotency: Middleware | undefined;
  readonly broker: Omit<BrokerOptions, "destinations">;
  readonly instance: string;
  readonly leaseMs: number;
  readonly pollMs: number;
  readonly journaled: boolean;
  readonly maxHeld: number;
  readonly emit: (event: MigrationEvent) => void;
}

type AnyDestination = Queue<never, unknown> | Topic<never, unknown>;

/** The broker object over two brokers. */
class MovingBroker<Native> implements Migration<Native> {
  readonly control: MigrationControl;
  readonly [INTERNALS]: BrokerInternals;
  readonly #parts: MovingParts;
  readonly #carried = new CarriedDestinations();
  readonly #pair: BrokerPair;
  readonly #follower: Follower;
  readonly #barrierAcks: BarrierAcks;
  readonly #recording: Recording;
  readonly #router: Router;
  readonly #sends: MovingSends;
  #consumers: MovingConsumer[] = [];
  #reports = 0;
  /** The options of the start in progress. */
  #starting: StartOptions = {};
  #state: BrokerStatus["state"] = "new";
  #turn: { readonly kind: "start" | "stop"; readonly done: Promise<void> } | undefined;

  readonly #clock: Clock;
  /** The time of the last stop that was called. */
  #stopTime: StopTime;

  constructor(parts: MovingParts) {
    this.#parts = parts;
    const { plan, broker, leaseMs, pollMs, instance, emit } = parts;
    const clock = clockOf("migration { broker.clock }", broker.clock);
    this.#clock = clock;
    this.#stopTime = new StopTime(clock);
    const random = randomOf("migration { broker.random }", broker.random);
    const timeoutMs = Math.ceil(leaseMs / 6);
    const stored = { store: plan.state, migration: plan.name, clock, timeoutMs };
    const makeId = messageIds(clock, random);
    this.#barrierAcks = new BarrierAcks(stored);
    this.#recording = new Recording(
      parts.journaled ? { ...stored, late: (marks, error) => emit({ type: "unrecorded", marks, error }) } : undefined,
    );
    const inner = { ...broker, use: [], consume: { ...broker.consume, use: [] }, onEvent: this.#onEvent };
    this.#pair = new BrokerPair(plan, inner, (side, made) => {
      for (const consumer of this.#consumers) consumer.attach(side, made);
    });
    this.#follower = new Follower({
      store: plan.state,
      migration: plan.name,
      instance,
      destinations: plan.described,
      leaseMs,
      pollMs,
      clock,
      takeOver: (state, revision) => this.#takeOver(state, revision),
      report: (problem) => this.#report(problem),
      stale: (error) => emit({ type: "stale", error }),
      fresh: () => {
        this.#router.retry();
        emit({ type: "fresh" });
      },
      stuck: (error) => emit({ type: "stuck", error }),
    });
    this.#router = new Router({
      plan,
      clock,
      follower: () => this.#follower,
      barrierAcks: this.#barrierAcks,
      recording: this.#recording,
      pair: this.#pair,
      maxHeld: parts.maxHeld,
    });
    this.#sends = new MovingSends({
      plan,
      router: this.#router,
      pair: this.#pair,
      carried: this.#carried,
      follower: this.#follower,
      makeId,
      timeoutMs: broker.publish?.timeoutMs ?? DEFAULT_SEND_MS,
      requireStarted: (what) => this.#requireStarted(what),
    });
    this.control = new Control(plan, clock, async (side, what) => this.#pair.require(side, what));
    this[INTERNALS] = movingInternals({
      plan,
      clock,
      random,
      makeId,
      emit: this.#onEvent,
      route: (routed) => this.#router.route(routed),
      side: (side) => this.#pair.require(side, "sending"),
      requireStarted: (what) => this.#requireStarted(what),
    });
  }

  readonly #onEvent = (event: BrokerEvent): void => {
    if (event.type === "dead-lettered") void this.#recording.mark(event.source, event.id, "dead");
    observe(this.#parts.broker.onEvent, event);
  };

  /** The report of this instance, with its deliveries in flight, which not every broker counts. */
  #report(problem: string | undefined): string {
    const held = (side: Side): number => this.#consumers.reduce((sum, consumer) => sum + consumer.heldOf(side), 0);
    const count = ++this.#reports;
    return JSON.stringify({
      problem,
      journaled: this.#parts.journaled,
      held: { from: held("from"), to: held("to") },
      count,
    });
  }

  async #takeOver(state: MigrationState, revision: number): Promise<void> {
    const { pending, accepted, step, shares } = state;
    const { emit } = this.#parts;
    const left = this.#router.takeOver(state);
    const wanted = new Set([...usedBrokers(step), ...(pending === null ? [] : usedBrokers(pending.step))]);
    await Promise.all([...wanted].map((side) => this.#pair.start(side, accepted, this.#starting)));
    await left;
    if (pending !== null) {
      emit({ type: "taken-over", step: pending.step, share: pending.share, revision });
      return;
    }
    emit({ type: "in-force", step, share: shares.at(-1) ?? 0, revision });
    for (const side of this.#pair.started()) if (!wanted.has(side)) void this.#pair.stop(side);
  }

  send<Input, Output>(to: Queue<Input, Output>, body: Input, options: SendOptions = {}): Promise<Receipt> {
    return this.#sends.send("queue", to as AnyDestination, body, options);
  }

  publish<Input, Output>(to: Topic<Input, Output>, body: Input, options: PublishOptions = {}): Promise<Receipt> {
    return this.#sends.send("topic", to as AnyDestination, body, options);
  }

  sendMany<Input, Output>(
    to: Queue<Input, Output>,
    entries: readonly BatchEntry<Input, SendOptions>[],
  ): Promise<readonly Receipt[]> {
    return sendEach("sendMany", entries, ({ body, options }) => this.send(to, body, options));
  }

  publishMany<Input, Output>(
    to: Topic<Input, Output>,
    entries: readonly BatchEntry<Input, PublishOptions>[],
  ): Promise<readonly Receipt[]> {
    return sendEach("publishMany", entries, ({ body, options }) => this.publish(to, body, options));
  }

  consume<Input, Output>(
    from: Queue<Input, Output>,
    handler: Handler<Output, Native>,
    options: ConsumeOptions<NoInfer<Output>> = {},
  ): Consumer {
    checkKind("consume", "queue", from as AnyDestination);
    this.#parts.plan.require(`consume(queue "${from.name}")`, "queue", from.name);
    const target = { kind: "queue", name: from.name } as const;
    return this.#consume(
      from.name,
      target,
      from as AnyDestination,
      handler,
      options as ConsumeOptions,
      (_side, broker, carried, wrapped, rest) => broker.consume(carried, wrapped, rest),
    );
  }

  subscribe<Input, Output>(
    topic: Topic<Input, Output>,
    subscription: string,
    handler: Handler<Output, Native>,
    options: SubscribeOptions<NoInfer<Output>> = {},
  ): Consumer {
    checkKind("subscribe", "topic", topic as AnyDestination);
    checkName("subscription", subscription);
    const where = `subscribe(topic "${topic.name}", "${subscription}")`;
    this.#parts.plan.requireSubscription(where, topic.name, subscription);
    const target = { kind: "topic", name: topic.name } as const;
    const source = addressName(workAddress(topic.name, subscription));
    return this.#consume(
      source,
      target,
      topic as AnyDestination,
      handler,
      options as SubscribeOptions,
      (side, broker, carried, wrapped, rest) => {
        const accepted = this.#follower.state?.accepted ?? [];
        return broker.subscribe(carried, subscription, wrapped, subscriptionOptions({ options: rest }, side, accepted));
      },
    );
  }

  #consume<Options extends ConsumeOptions>(
    source: string,
    target: Target,
    destination: AnyDestination,
    handler: Handler<never, Native>,
    options: Options,
    begin: (
      side: Side,
      broker: Broker,
      carried: Queue<unknown> & Topic<unknown>,
      wrapped: Handler<unknown>,
      rest: Options,
    ) => Consumer,
  ): Consumer {
    const { broker, idempotency } = this.#parts;
    const { use = [], ...rest } = options;
    const slots = new Slots(options.concurrency ?? broker.consume?.concurrency ?? DEFAULT_CONCURRENCY);
    const once = idempotency === undefined ? [] : [idempotency];
    const alignment =
      destination.options.ordered === true
        ? new BarrierAlignment({
            follower: () => this.#follower,
            barrierAcks: this.#barrierAcks,
            router: this.#router,
            source,
            target,
          })
        : undefined;
    const parts = {
      source,
      alignment,
      slots,
      recording: this.#recording,
      once: idempotency !== undefined,
      use: [...(broker.use ?? []), ...(broker.consume?.use ?? []), ...once, ...use],
    };
    const consumer = new MovingConsumer(source, slots, (side, made) => {
      const wrapped = handlerAt(side, handler as Handler<unknown>, parts);
      const carried = this.#carried.of(destination, side, this.#follower.state?.accepted ?? []);
      return begin(side, made, carried, wrapped, rest as Options);
    });
    this.#consumers = [...this.#consumers.filter(({ ended }) => !ended), consumer];
    for (const side of ["from", "to"] as const) {
      const made = this.#pair.get(side);
      if (made !== undefined) consumer.attach(side, made);
    }
    return consumer;
  }

  start(options: StartOptions = {}): Promise<void> {
    startWait(options);
    return this.#inTurn("start", async () => {
      if (this.#state === "started") return;
      this.#state = "starting";
      this.#starting = options;
      this.#barrierAcks.start();
      this.#recording.start();
      try {
        await this.#follower.start();
        this.#state = "started";
      } catch (error) {
        await this.#stopBoth(0);
        this.#state = "stopped";
        throw error;
      } finally {
        this.#starting = {};
      }
    });
  }

  stop(options: StopOptions = {}): Promise<void> {
    this.#pair.cancelStart();
    const { timeoutMs = DEFAULT_STOP_MS } = options;
    // A call that shares a stop may shorten it.
    const time = this.#turn?.kind === "stop" ? this.#stopTime : new StopTime(this.#clock);
    this.#stopTime = time;
    time.limit(timeoutMs);
    this.#pair.hurry(timeoutMs);
    return this.#inTurn("stop", async () => {
      if (this.#state === "started") {
        this.#state = "stopping";
        // Handlers may send until they end, so the state is followed until then.
        await this.#stopBoth(time.leftMs);
        this.#router.close();
        await this.#follower.stop();
        // The last state may have started a broker.
        await this.#stopBoth(time.leftMs);
        this.#barrierAcks.stop();
        await this.#recording.stop();
      }
      this.#state = "stopped";
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stopBoth(timeoutMs: number): Promise<void> {
    await Promise.all((["from", "to"] as const).map((side) => this.#pair.stop(side, timeoutMs)));
  }

  /** Runs starts and stops one after another. A call shares the last one of its kind. */
  #inTurn(kind: "start" | "stop", run: () => Promise<void>): Promise<void> {
    const last = this.#turn;
    if (last?.kind === kind) return last.done;
    const before = last?.done.catch(() => {}) ?? Promise.resolve();
    const turn = { kind, done: before.then(run) };
    this.#turn = turn;
    const over = (): void => {
      if (this.#turn === turn) this.#turn = undefined;
    };
    turn.done.then(over, over);
    return turn.done;
  }

  #requireStarted(what: string): void {
    if (this.#state === "started" || this.#state === "stopping") return;
    throw new MessagingError("closed", `${what} cannot be done: call start() first`);
  }

  async depth(of: AnyDestination, subscription?: string): Promise<Depth> {
    this.#requireStarted(`the depth of ${of.name}`);
    const depths = await Promise.all(
      this.#pair.started().map((side) => {
        const broker = this.#pair.require(side, "depth");
        return of.kind === "queue"
          ? broker.depth(of as Queue<unknown>)
          : broker.depth(of as Topic<unknown>, subscription as string);
      }),
    );
    const unsettled = depths.map((depth) => depth.unsettled);
    return {
      ready: depths.reduce((sum, { ready }) => sum + ready, 0),
      unsettled: unsettled.every((count) => count !== undefined)
        ? unsettled.reduce((sum, count) => sum + count, 0)
        : undefined,
      exact: depths.every(({ exact }) => exact),
    };
  }

  async rewind<Input, Output>(topic: Topic<Input, Output>, subscription: string, to: StartPosition): Promise<void> {
    const where = `rewind(topic "${topic.name}", "${subscription}")`;
    this.#requireStarted(where);
    const [side, other] = this.#pair.started();
    if (side === undefined || other !== undefined) {
      throw new MessagingError(
        "conflict",
        `${where}: events are stored on two brokers; rewind before the migration or after it`,
      );
    }
    await this.#pair.require(side, where).rewind(topic, subscription, to);
  }

  status(): BrokerStatus {
    const all = this.#pair.started().map((side) => this.#pair.require(side, "status").status());
    return {
      state: this.#state,
      connected: all.length > 0 && all.every(({ connected }) => connected),
      blocked: all.find(({ blocked }) => blocked !== undefined)?.blocked,
      publishing: {
        messages: all.reduce((sum, { publishing }) => sum + publishing.messages, 0),
        bytes: all.reduce((sum, { publishing }) => sum + publishing.bytes, 0),
        waiting: all.reduce((sum, { publishing }) => sum + publishing.waiting, 0) + this.#router.waiting,
      },
      consumers: this.#consumers.map((consumer) => consumer.status()),
    };
  }
}
