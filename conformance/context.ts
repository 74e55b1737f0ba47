import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { Adapter, IncomingMessage } from "../core/adapter.ts";
import { addressName, type WorkAddress, workAddress } from "../core/address.ts";
import type { Broker } from "../core/broker.ts";
import type { Capabilities } from "../core/capabilities.ts";
import { createBroker } from "../core/create-broker.ts";
import type { Delivery, Middleware } from "../core/delivery.ts";
import { type Queue, type QueueOptions, queue, type Topic, type TopicOptions, topic } from "../core/destination.ts";
import type { BrokerEvent } from "../core/events.ts";
import type { BrokerOptions } from "../core/options.ts";
import { HEADER } from "../core/system-headers.ts";
import { DirectAdapter, type Inbox, outgoing } from "./direct-adapter.ts";
import type { Harness } from "./harness.ts";
import { Ledger } from "./ledger.ts";
import type { CaseResult } from "./results.ts";
import { seeded } from "./seed.ts";
import { until } from "./until.ts";

/** The most dead letters that a reader holds unsettled. */
const DEAD_LETTERS_PREFETCH = 1_000;

/** What most cases send. */
export interface Work {
  readonly n: number;
  readonly poison?: boolean;
}

const PATIENCE_MS = 60_000;
const READY_MS = 60_000;
const STOP_MS = 2_000;
/** The most that one cleanup may take. */
const CLEAN_UP_MS = 240_000;

/** The tools of a case. Everything that it makes is closed at its end. */
export class CaseContext {
  readonly harness: Harness;
  readonly ledger = new Ledger();
  /** Numbers from 0 up to 1, the same for the same seed. */
  readonly random: () => number;
  /** The events of all brokers of the case. */
  readonly events: BrokerEvent[] = [];
  readonly capabilities: Capabilities;
  readonly patienceMs: number;
  readonly #unique: string;
  readonly #cleanups: (() => Promise<unknown>)[] = [];
  /** Called before each check of a condition. */
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

  /** A unique message id. */
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

  /** A new adapter with short leases, if the harness has one. */
  leasing(): Adapter {
    return this.harness.leasing?.() ?? this.harness.adapter();
  }

  /** A broker whose handler starts and effects are recorded in the ledger. Default: on a new adapter. */
  broker(options: BrokerOptions = {}, adapter: Adapter = this.harness.adapter()): Broker {
    const broker = createBroker(adapter, {
      publish: { timeoutMs: this.patienceMs },
      ...options,
      use: [this.#recording(), ...(options.use ?? [])],
      onEvent: (event) => {
        this.events.push(event);
        options.onEvent?.(event);
      },
    });
    this.cleanUp(() => broker.stop({ timeoutMs: STOP_MS }));
    return broker;
  }

  /** A started {@link broker}. `prepare` is called before the start. */
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

  /** As `until`, for at least 60 s: the start of a process depends on the machine, not on the adapter. */
  untilReady(what: string, condition: () => boolean): Promise<void> {
    return this.until(what, condition, Math.max(this.patienceMs, READY_MS));
  }

  /** Registers a function that takes reports in, called before each check of a condition. */
  intake(take: () => void): void {
    this.#intakes.push(take);
  }

  /** Registers a cleanup for the end. The last registered runs first. */
  cleanUp(action: () => Promise<unknown>): void {
    this.#cleanups.push(action);
  }

  /** Adds a note to the result. */
  note(text: string): void {
    this.#notes.push(text);
  }

  /** Reports that the adapter declares this unsupported, and refused it. */
  refused(note: string): void {
    this.#result = "refused";
    this.#notes.push(note);
  }

  /** Reports that the harness has no means to test this. */
  notRun(note: string): void {
    this.#result = "not-run";
    this.#notes.push(note);
  }

  /** Reports that this cannot be tested here, for the harness's reason. */
  notApplicable(note: string): void {
    this.#result = "not-applicable";
    this.#notes.push(note);
  }

  get outcome(): { readonly result: CaseResult; readonly note: string | undefined } {
    return { result: this.#result, note: this.#notes.length === 0 ? undefined : this.#notes.join("; ") };
  }

  /** Runs all cleanups. Resolves with their failures. */
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

  #recording(): Middleware {
    return (next) => async (body, delivery) => {
      const source = sourceOf(delivery);
      this.ledger.started(source, delivery.id, printOf(body));
      const outcome = await next(body, delivery);
      if (outcome === undefined) this.ledger.effected(source, delivery.id);
      return outcome;
    };
  }
}

/** The name of a delivery's source, as in `ConsumerStatus.source`. */
function sourceOf(delivery: Delivery): string {
  return addressName(workAddress(delivery.destination, delivery.subscription));
}

/** A JSON body as text, to compare bodies. */
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

/** Reads the dead letters of a queue or subscription through the adapter, and settles none. */
export class DeadLetterReader {
  readonly #context: CaseContext;
  readonly #of: WorkAddress;
  readonly #direct: DirectAdapter;
  readonly #inbox: Inbox;
  readonly #markerId: string;

  private constructor(context: CaseContext, of: WorkAddress, direct: DirectAdapter, inbox: Inbox) {
    this.#context = context;
    this.#of = of;
    this.#direct = direct;
    this.#inbox = inbox;
    this.#markerId = context.id();
  }

  /** Begins to read. The queue or subscription has to be declared. */
  static async open(context: CaseContext, of: WorkAddress): Promise<DeadLetterReader> {
    const direct = await DirectAdapter.open(context.harness.adapter());
    context.cleanUp(() => direct.close());
    const inbox = await direct.receive(
      { kind: "dead-letters", of },
      { prefetch: DEAD_LETTERS_PREFETCH, ordered: false },
    );
    return new DeadLetterReader(context, of, direct, inbox);
  }

  /** What has arrived so far. */
  get messages(): readonly IncomingMessage[] {
    return this.#inbox.messages.filter((message) => message.id !== this.#markerId);
  }

  /** Waits for this many dead letters. */
  async until(count: number): Promise<void> {
    const what = `${count} dead letters of ${addressName(this.#of)}`;
    await this.#context.until(what, () => this.messages.length >= count);
  }

  /**
   * All dead letters, recorded in the ledger. Nothing may add to them any more. The reader sends a last message behind
   * the last one and waits for it, so no more can come.
   */
  async all(): Promise<readonly IncomingMessage[]> {
    await this.#direct.confirmed({ kind: "dead-letters", of: this.#of }, [outgoing({ id: this.#markerId })]);
    const lastSeen = (): boolean => this.#inbox.messages.some((message) => message.id === this.#markerId);
    await this.#context.until(`the last message behind the dead letters of ${addressName(this.#of)}`, lastSeen);
    for (const { id } of this.messages) this.#context.ledger.deadLettered(addressName(this.#of), id);
    return this.messages;
  }

  /** The message that a dead letter refers to, or the dead letter itself. */
  async original(letter: IncomingMessage): Promise<IncomingMessage> {
    if (letter.headers[HEADER.deadReference] === undefined) return letter;
    const messages = await this.#direct.adapter.resolve?.({ kind: "dead-letters", of: this.#of }, letter);
    const [message, ...more] = messages ?? [];
    assert.ok(
      message !== undefined && more.length === 0,
      `dead letter ${letter.id} does not refer to exactly one message`,
    );
    return message;
  }
}
