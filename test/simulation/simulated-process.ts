import type { Broker, Consumer } from "../../core/broker.ts";
import { createBroker } from "../../core/create-broker.ts";
import { type Delivery, deadLetter, type HandlerResult, postpone, retry } from "../../core/delivery.ts";
import { isMessagingError } from "../../core/errors.ts";
import type { Ledger } from "./ledger.ts";
import type { Prng } from "./prng.ts";
import type { SimulatedAdapter } from "./simulated-adapter.ts";
import type { Variant } from "./variant.ts";
import { ProcessClock, type VirtualTime } from "./virtual-time.ts";
import { type Destinations, RETRY_AFTER_MS, SUBSCRIPTIONS, type Work } from "./work.ts";

const RESTART_MS = 500;
/** What the engine takes beyond a stop's own time: for aborted handlers, for settlements, for the wire. */
const STOP_GRACE_MS = 6_500;

/** One process: a broker object with its consumers, until it is killed. */
export class SimulatedProcess {
  readonly name: string;
  readonly adapter: SimulatedAdapter;
  readonly broker: Broker;
  readonly consumers: readonly Consumer[];
  readonly #clock: ProcessClock;
  /** The handlers' own timers, which may outlive a stop. */
  readonly #handlerClock: ProcessClock;
  readonly #time: VirtualTime;
  readonly #ledger: Ledger;
  readonly #variant: Variant;
  readonly #kill: (process: SimulatedProcess) => void;
  /** Every handler that is under way, those left behind by the engine too. */
  readonly #handling = new Set<{ readonly source: string; readonly id: string }>();
  /** Handlers under way by source and key, those left behind by the engine apart. */
  #running = new Map<string, number>();
  #wanted = false;
  #stopped = false;
  /** How often a start or a stop was asked for: only the last one's end tells how things are. */
  #turn = 0;
  #turnsOpen = 0;

  constructor(
    name: string,
    parts: { adapter: SimulatedAdapter; time: VirtualTime; ledger: Ledger; variant: Variant; prng: Prng },
    destinations: Destinations,
    kill: (process: SimulatedProcess) => void,
  ) {
    const { adapter, time, ledger, variant, prng } = parts;
    this.name = name;
    this.adapter = adapter;
    this.#time = time;
    this.#ledger = ledger;
    this.#variant = variant;
    this.#kill = kill;
    this.#clock = new ProcessClock(time);
    this.#handlerClock = new ProcessClock(time);
    const { attempts, firstMs, factor, maxMs, concurrency, prefetchMessages, maxParked } = variant;
    this.broker = createBroker(adapter, {
      clock: this.#clock,
      random: prng,
      onEvent: (event) => {
        ledger.log(`${name} ${event.type}`);
        // It may stand all the same, and another is made.
        if (event.type === "copy-failed") ledger.entry(event.source, event.id).disturbed = true;
      },
      publish: {
        maxMessages: variant.bufferMessages,
        whenFull: variant.whenFull,
        timeoutMs: variant.publishTimeoutMs,
      },
      consume: {
        concurrency,
        timeoutMs: variant.handlerTimeoutMs,
        prefetch: { messages: prefetchMessages },
        maxParked,
        quarantine: { silenceMs: variant.silenceMs },
        retry: { attempts, delay: { firstMs, factor, maxMs } },
      },
    });
    const { queue, topic } = destinations;
    this.consumers = [
      this.broker.consume(queue, (body, delivery) => this.#handle("work", body, delivery)),
      ...SUBSCRIPTIONS.map((subscription) =>
        this.broker.subscribe(topic, subscription, (body, delivery) =>
          this.#handle(`events..${subscription}`, body, delivery),
        ),
      ),
    ];
  }

  get dead(): boolean {
    return this.adapter.dead;
  }

  /** Starts, and tries again until it has started or is no longer wanted. */
  start(): void {
    this.#wanted = true;
    this.#stopped = false;
    this.#turn++;
    this.#turnsOpen++;
    this.broker.start().then(
      () => {
        this.#turnsOpen--;
        this.#ledger.log(`${this.name} started`);
      },
      (error: unknown) => {
        this.#turnsOpen--;
        this.#ledger.log(`${this.name} did not start`);
        if (!isMessagingError(error, "start-failed")) this.#ledger.violated(`start failed with ${String(error)}`);
        this.#time.schedule(() => {
          if (this.#wanted && !this.dead) this.start();
        }, RESTART_MS);
      },
    );
  }

  async stop(timeoutMs: number): Promise<void> {
    this.#wanted = false;
    const turn = ++this.#turn;
    // Starts and stops that were asked for before come first.
    const by = this.#turnsOpen++ > 0 ? Number.POSITIVE_INFINITY : this.#time.now + timeoutMs + STOP_GRACE_MS;
    await this.broker.stop({ timeoutMs });
    this.#turnsOpen--;
    // Whatever still runs has been left behind.
    this.#running = new Map();
    this.#ledger.log(`${this.name} stopped`);
    if (turn !== this.#turn) return;
    this.#stopped = true;
    if (this.#time.now > by)
      this.#ledger.violated(`the stop of ${this.name} took until ${this.#time.now - by} ms late`);
    if (this.#clock.pending > 0)
      this.#ledger.violated(`${this.name} was stopped and left ${this.#clock.pending} timers`);
    const { publishing, consumers, connected } = this.broker.status();
    const left = publishing.messages + publishing.bytes + publishing.waiting;
    if (left > 0) this.#ledger.violated(`${this.name} was stopped and its buffer held ${JSON.stringify(publishing)}`);
    for (const { source, unsettled, running, waiting } of consumers) {
      if (unsettled + running + waiting === 0) continue;
      this.#ledger.violated(`${this.name} was stopped: ${source} has ${unsettled}, ${running}, ${waiting} left`);
    }
    if (connected) this.#ledger.violated(`${this.name} was stopped and says that it is connected`);
  }

  kill(): void {
    const handled = [...this.#handling].map(({ source, id }) => `${source}/${id}`);
    for (const name of new Set([...handled, ...this.adapter.noted])) this.#ledger.crashed(name, handled.includes(name));
    this.adapter.kill();
    this.#clock.kill();
    this.#handlerClock.kill();
  }

  /** Whether nothing is under way here. */
  get idle(): boolean {
    const { state, publishing, consumers } = this.broker.status();
    if (this.dead || state !== "started") return false;
    return publishing.messages === 0 && consumers.every(({ unsettled }) => unsettled === 0);
  }

  /** Looks at what must hold at any moment. */
  inspect(): void {
    if (this.dead) return;
    const { prefetchMessages, maxParked, bufferMessages, concurrency } = this.#variant;
    for (const receiver of this.adapter.receivers) {
      const most = prefetchMessages + maxParked;
      if (receiver.asked <= most) continue;
      this.#ledger.violated(`${this.name} asks for ${receiver.asked} from ${receiver.place.name}, not ${most} at most`);
    }
    const { publishing, consumers } = this.broker.status();
    // A lease that lapsed in silence is held on to until the next extension says so, while its message comes again.
    const mostWaiting = (prefetchMessages + maxParked + 1) * (this.#variant.leaseMs === undefined ? 1 : 3);
    for (const { source, running, waiting, unsettled } of consumers) {
      if (running < 0 || waiting > mostWaiting || unsettled < waiting) {
        this.#ledger.violated(
          `${this.name}: ${source} has ${running} running, ${waiting} waiting, ${unsettled} unsettled`,
        );
      }
    }
    // Copies of what the consumers hold do not wait for room, and those of what was lost meanwhile are still on their way.
    const most = bufferMessages + consumers.length * 3 * (prefetchMessages + maxParked + 1 + concurrency);
    if (publishing.messages < 0 || publishing.bytes < 0 || publishing.waiting < 0 || publishing.messages > most) {
      this.#ledger.violated(`${this.name}: its buffer holds ${JSON.stringify(publishing)}`);
    }
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.#handlerClock.schedule(resolve, ms));
  }

  #handle(source: string, work: Work, delivery: Delivery): HandlerResult | Promise<HandlerResult> {
    // Code of a killed process does not run; that it does here is only because all processes are one.
    if (this.dead) return new Promise(() => {});
    const start = this.#ledger.started(source, delivery.id, delivery.attempt);
    if (this.#stopped) this.#ledger.violated(`${this.name} started a handler after its stop`);
    const handling = { source, id: delivery.id };
    if (work.plan.kind === "poison" && start <= work.plan.times) {
      this.#handling.add(handling);
      this.#ledger.log(`${this.name} dies of ${work.number}`);
      this.#kill(this);
      return new Promise(() => {});
    }
    const { kind, times } = work.plan;
    const misbehaves = kind !== "ok" && start <= times;
    if (misbehaves && kind === "throw") {
      this.#ledger.failed(source, delivery.id, this.#plainDelay(delivery.attempt));
      throw new Error("the handler threw at once");
    }
    if (!misbehaves && work.plan.workMs === 0) {
      this.#ledger.effected(source, delivery.id);
      return;
    }
    this.#handling.add(handling);
    const working = this.#work(source, work, delivery, misbehaves).finally(() => this.#handling.delete(handling));
    return this.#serially(source, delivery, working);
  }

  #plainDelay(attempt: number): number {
    const { firstMs, factor, maxMs } = this.#variant;
    return Math.min(firstMs * factor ** (attempt - 1), maxMs);
  }

  async #work(source: string, { plan }: Work, delivery: Delivery, misbehaves: boolean): Promise<HandlerResult> {
    if (misbehaves && (plan.kind === "hang" || plan.kind === "ignore")) {
      const { handlerTimeoutMs } = this.#variant;
      const pauseMs = handlerTimeoutMs + this.#plainDelay(delivery.attempt);
      // It counts from the deadline, which is still to come.
      this.#ledger.failed(source, delivery.id, pauseMs);
      if (plan.kind === "ignore") return new Promise(() => {});
      await aborted(delivery.signal);
      throw new Error("the handler heeded its signal");
    }
    await this.#wait(plan.workMs);
    if (!misbehaves) {
      // What the engine has given up by then is done again; only what it may settle counts.
      const { reason, aborted: over } = delivery.signal;
      if (!over || isMessagingError(reason, "closed")) this.#ledger.effected(source, delivery.id);
      return undefined;
    }
    if (plan.kind === "dead-letter") return deadLetter("the handler does not want it");
    if (plan.kind === "postpone") {
      this.#ledger.postponed(source, delivery.id, RETRY_AFTER_MS);
      return postpone({ afterMs: RETRY_AFTER_MS });
    }
    const pauseMs = plan.kind === "retry" ? RETRY_AFTER_MS : this.#plainDelay(delivery.attempt);
    this.#ledger.failed(source, delivery.id, pauseMs);
    if (plan.kind === "retry") return retry({ afterMs: RETRY_AFTER_MS });
    throw new Error("the handler rejected");
  }

  /** Sees to it that two handlers of one key of an ordered source do not run at once. */
  async #serially(source: string, delivery: Delivery, work: Promise<HandlerResult>): Promise<HandlerResult> {
    const ordered = source === "work" ? this.#variant.queueOrdered : this.#variant.topicOrdered;
    if (!ordered || delivery.key === undefined) return work;
    const lane = `${source}/${delivery.key}`;
    const running = this.#running;
    const others = running.get(lane) ?? 0;
    if (others > 0) this.#ledger.violated(`${this.name}: ${others + 1} handlers of ${lane} run at once`);
    running.set(lane, others + 1);
    let over = false;
    const leave = (): void => {
      if (over) return;
      over = true;
      running.set(lane, (running.get(lane) ?? 1) - 1);
    };
    // From its deadline or a stop's on, the engine has left the handler behind. What was lost keeps its lane until then.
    this.#handlerClock.schedule(leave, this.#variant.handlerTimeoutMs - 1);
    delivery.signal.addEventListener("abort", () => {
      if (isMessagingError(delivery.signal.reason, "closed")) leave();
    });
    try {
      return await work;
    } finally {
      leave();
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
