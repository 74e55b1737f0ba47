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
import type { Harness } from "./harness.ts";
import { Ledger } from "./ledger.ts";
import type { CaseResult } from "./results.ts";
import { type Inbox, outgoing, Seam } from "./seam.ts";
import { seeded } from "./seed.ts";
import { until } from "./until.ts";

/** How many dead letters a reader takes without settling them. */
const DEAD_LETTERS_PREFETCH = 1_000;

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

/** The dead letters of one queue or subscription, read through the adapter as they arrive, none of them settled. */
export class DeadLetterReader {
  readonly #context: CaseContext;
  readonly #of: WorkAddress;
  readonly #seam: Seam;
  readonly #inbox: Inbox;
  readonly #endMark: string;

  private constructor(context: CaseContext, of: WorkAddress, seam: Seam, inbox: Inbox) {
    this.#context = context;
    this.#of = of;
    this.#seam = seam;
    this.#inbox = inbox;
    this.#endMark = context.id();
  }

  /** Begins to read. The queue or subscription must have been declared. */
  static async open(context: CaseContext, of: WorkAddress): Promise<DeadLetterReader> {
    const seam = await Seam.open(context.harness.adapter());
    context.cleanUp(() => seam.close());
    const inbox = await seam.receive({ kind: "dead-letters", of }, { prefetch: DEAD_LETTERS_PREFETCH, ordered: false });
    return new DeadLetterReader(context, of, seam, inbox);
  }

  /** What has arrived so far. */
  get messages(): readonly IncomingMessage[] {
    return this.#inbox.messages.filter((message) => message.id !== this.#endMark);
  }

  /** Waits for so many. */
  async until(count: number): Promise<void> {
    const what = `${count} dead letters of ${addressName(this.#of)}`;
    await this.#context.until(what, () => this.messages.length >= count);
  }

  /**
   * All dead letters, booked in the ledger. Nothing may be adding to them any more. A mark is
   * sent behind the last of them, so that "no more came" is seen rather than assumed after a while.
   */
  async all(): Promise<readonly IncomingMessage[]> {
    await this.#seam.confirmed({ kind: "dead-letters", of: this.#of }, [outgoing({ id: this.#endMark })]);
    const marked = (): boolean => this.#inbox.messages.some((message) => message.id === this.#endMark);
    await this.#context.until(`the mark behind the dead letters of ${addressName(this.#of)}`, marked);
    for (const { id } of this.messages) this.#context.ledger.deadLettered(addressName(this.#of), id);
    return this.messages;
  }

  /** The message that a dead letter stands for: mostly itself. */
  async original(letter: IncomingMessage): Promise<IncomingMessage> {
    if (letter.headers[HEADER.deadReference] === undefined) return letter;
    const messages = await this.#seam.adapter.resolve?.({ kind: "dead-letters", of: this.#of }, letter);
    const [message, ...more] = messages ?? [];
    assert.ok(message !== undefined && more.length === 0, `dead letter ${letter.id} refers to no one message`);
    return message;
  }
}
