import { randomBytes } from "node:crypto";
import {
  type Adapter,
  addressName,
  type Broker,
  type BrokerEvent,
  type BrokerOptions,
  type Capabilities,
  createBroker,
  type Delivery,
  type Middleware,
  type Queue,
  type QueueOptions,
  queue,
  type Topic,
  type TopicOptions,
  topic,
  workAddress,
} from "../../core/index.ts";
import type { CaseResult } from "./case.ts";
import { DeadLetterReader } from "./dead-letters.ts";
import type { Harness } from "./harness.ts";
import { Ledger } from "./ledger.ts";
import { seeded } from "./seed.ts";
import { until } from "./until.ts";

/** What most cases send. */
export interface Work {
  readonly n: number;
  readonly poison?: boolean;
}

const PATIENCE_MS = 60_000;
const READY_MS = 60_000;
const STOP_MS = 2_000;
/** What one piece of cleaning up may take, before the others go on without it. */
const CLEAN_UP_MS = 240_000;

/** What a case works with. Everything it makes is taken down at its end, however it ends. */
export class CaseContext {
  readonly harness: Harness;
  readonly ledger = new Ledger();
  /** Numbers from 0 up to, not including, 1, the same for the same seed. */
  readonly random: () => number;
  /** What every broker of the case reported. */
  readonly events: BrokerEvent[] = [];
  readonly capabilities: Capabilities;
  readonly patienceMs: number;
  readonly #unique: string;
  readonly #cleanups: (() => Promise<unknown>)[] = [];
  /** Called before every look at a condition. */
  readonly #intakes: (() => void)[] = [];
  readonly #notes: string[] = [];
  #result: CaseResult = "passed";
  #ids = 0;

  constructor(harness: Harness, number: string, seed: number) {
    this.harness = harness;
    this.random = seeded(seed);
    this.capabilities = harness.adapter().capabilities;
    this.patienceMs = harness.patienceMs ?? PATIENCE_MS;
    this.#unique = `c${number}-${randomBytes(4).toString("hex")}`;
  }

  /** A message id that no other message has. */
  id(): string {
    return `${this.#unique}-${this.#ids++}`;
  }

  /** A name that no other case uses. */
  name(name: string): string {
    return `${this.harness.namePrefix ?? ""}${this.#unique}.${name}`;
  }

  queue<Body = Work>(name: string, options?: QueueOptions<Body>): Queue<Body> {
    return queue<Body>(this.name(name), options);
  }

  topic<Body = Work>(name: string, options?: TopicOptions<Body>): Topic<Body> {
    return topic<Body>(this.name(name), options);
  }

  /** A fresh adapter for a case that is about leases. */
  leasing(): Adapter {
    return this.harness.leasing?.() ?? this.harness.adapter();
  }

  /** A broker whose handlers are booked in the ledger. The adapter is a fresh one unless given. */
  broker(options: BrokerOptions = {}, adapter: Adapter = this.harness.adapter()): Broker {
    const broker = createBroker(adapter, {
      publish: { timeoutMs: this.patienceMs },
      ...options,
      use: [this.#booking(), ...(options.use ?? [])],
      onEvent: (event) => {
        this.events.push(event);
        options.onEvent?.(event);
      },
    });
    this.cleanUp(() => broker.stop({ timeoutMs: STOP_MS }));
    return broker;
  }

  /** A started {@link broker} that consumes what `prepare` tells it to. */
  async started(
    options: BrokerOptions = {},
    prepare: (broker: Broker) => unknown = () => {},
    adapter?: Adapter,
  ): Promise<Broker> {
    const broker = this.broker(options, adapter);
    prepare(broker);
    await broker.start();
    return broker;
  }

  /** The dead letters of a queue, or of a subscription of a topic. */
  deadLetters(of: Queue<never, unknown>): Promise<DeadLetterReader>;
  deadLetters(of: Topic<never, unknown>, subscription: string): Promise<DeadLetterReader>;
  deadLetters(of: Queue<never, unknown> | Topic<never, unknown>, name = ""): Promise<DeadLetterReader> {
    if (of.kind === "queue") return DeadLetterReader.open(this, { kind: "queue", name: of.name });
    return DeadLetterReader.open(this, { kind: "subscription", topic: of.name, name });
  }

  /** Waits for a condition; its failure shows the ledger. */
  until(what: string, condition: () => boolean | Promise<boolean>, patienceMs = this.patienceMs): Promise<void> {
    const look = (): boolean | Promise<boolean> => {
      for (const take of this.#intakes) take();
      return condition();
    };
    return until(look, { what, timeoutMs: patienceMs, state: () => this.ledger.describe() });
  }

  /** As `until`, however little patience there is with the adapter: how long a process takes to start is the machine's affair. */
  untilReady(what: string, condition: () => boolean): Promise<void> {
    return this.until(what, condition, Math.max(this.patienceMs, READY_MS));
  }

  /** Registers where reports come in from, to be emptied before every look at a condition. */
  intake(take: () => void): void {
    this.#intakes.push(take);
  }

  /** Registers what must happen at the end. The last registered is the first done. */
  cleanUp(action: () => Promise<unknown>): void {
    this.#cleanups.push(action);
  }

  /** Under which conditions the case passes. */
  note(text: string): void {
    this.#notes.push(text);
  }

  /** The adapter declares that it cannot do this, and was seen to refuse it. */
  refused(note: string): void {
    this.#result = "refused";
    this.#notes.push(note);
  }

  /** The harness has no means to try this. */
  notRun(note: string): void {
    this.#result = "not-run";
    this.#notes.push(note);
  }

  /** The harness names why this cannot be tried, such as what its emulator lacks. */
  notApplicable(note: string): void {
    this.#result = "not-applicable";
    this.#notes.push(note);
  }

  get outcome(): { readonly result: CaseResult; readonly note: string | undefined } {
    return { result: this.#result, note: this.#notes.length === 0 ? undefined : this.#notes.join("; ") };
  }

  /** Takes down what the case made; resolves with what went wrong in doing so. */
  async close(): Promise<readonly unknown[]> {
    const failures: unknown[] = [];
    for (const action of this.#cleanups.splice(0).reverse()) {
      try {
        await within(CLEAN_UP_MS, action());
      } catch (failure) {
        failures.push(failure);
      }
    }
    return failures;
  }

  #booking(): Middleware {
    return (next) => async (body, delivery) => {
      const source = sourceOf(delivery);
      this.ledger.started(source, delivery.id, printOf(body));
      const outcome = await next(body, delivery);
      if (outcome === undefined) this.ledger.effected(source, delivery.id);
      return outcome;
    };
  }
}

/** The name of what a delivery came from, as `ConsumerStatus.source` has it. */
export function sourceOf(delivery: Delivery): string {
  return addressName(workAddress(delivery.destination, delivery.subscription));
}

/** What tells one body from another, for bodies that are JSON. */
export function printOf(body: unknown): string | undefined {
  return body instanceof Uint8Array ? undefined : JSON.stringify(body);
}

async function within(ms: number, action: Promise<unknown>): Promise<void> {
  const controller = new AbortController();
  const late = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`cleaning up took longer than ${ms} ms`)), ms);
    controller.signal.addEventListener("abort", () => clearTimeout(timer));
  });
  try {
    await Promise.race([action, late]);
  } finally {
    controller.abort();
  }
}
