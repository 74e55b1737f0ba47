import type {
  Adapter,
  AdapterSignals,
  DeliverySink,
  Depth,
  OutgoingMessage,
  QuarantineLog,
  ReceiveOptions,
  Receiver,
  SendLimits,
  SendReport,
  Topology,
} from "../../core/adapter.ts";
import { type Address, addressName, type Source, type WorkAddress } from "../../core/address.ts";
import type { Capabilities } from "../../core/capabilities.ts";
import { MessagingError } from "../../core/errors.ts";
import { type Faults, LONGEST_LATENCY_MS } from "./faults.ts";
import { SendRequest } from "./send-request.ts";
import type { SimulatedBroker } from "./simulated-broker.ts";
import { type Link, SimulatedReceiver } from "./simulated-receiver.ts";
import type { Variant } from "./variant.ts";

/** The adapter of one process to the simulated broker, over a network that is as bad as its faults. */
export class SimulatedAdapter implements Adapter, Link {
  readonly name = "simulated";
  readonly capabilities: Capabilities;
  readonly sendLimits: SendLimits;
  readonly #broker: SimulatedBroker;
  readonly #faults: Faults;
  readonly #variant: Variant;
  readonly #receivers = new Set<SimulatedReceiver>();
  readonly #requests = new Set<SendRequest>();
  #orderedRequests = new WeakSet<SendRequest>();
  #ordered = new Set<string>();
  #signals: AdapterSignals | undefined;
  #blocked = false;
  /** The messages, with their sources, whose handlers run or are about to by what this process wrote into the quarantine logs. */
  readonly noted = new Set<string>();
  connection: object | undefined;
  dead = false;

  constructor(broker: SimulatedBroker, faults: Faults, variant: Variant) {
    this.#broker = broker;
    this.#faults = faults;
    this.#variant = variant;
    this.capabilities = capabilitiesOf(variant);
    this.sendLimits = {
      maxBatchMessages: variant.batchMessages,
      maxBatchBytes: variant.batchBytes,
      maxBatchesInFlight: variant.batchesInFlight,
      storesInOrder: variant.storesInOrder,
    };
  }

  get receivers(): readonly SimulatedReceiver[] {
    return [...this.#receivers];
  }

  physicalName(address: Address): string {
    return addressName(address);
  }

  latency(): number {
    return this.#faults.latency();
  }

  extensionFails(): boolean {
    return this.#faults.extensionFails();
  }

  /** Resolves after a while, unless the process was killed by then. */
  #later<Result>(make: () => Result): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#broker.time.schedule(() => {
        if (this.dead) return;
        try {
          resolve(make());
        } catch (error) {
          reject(error);
        }
      }, this.latency());
    });
  }

  open(signals: AdapterSignals): Promise<void> {
    return this.#later(() => {
      if (this.#faults.openFails()) throw new MessagingError("unreachable", "no connection in the simulation");
      this.#signals = signals;
      this.connection = {};
      this.#blocked = false;
    });
  }

  declare(topology: Topology): Promise<readonly MessagingError[]> {
    for (const { address, ordered } of [...topology.queues, ...topology.topics, ...topology.subscriptions]) {
      if (ordered) this.#ordered.add(addressName(address));
    }
    return this.#later(() => {
      this.#broker.declare(topology);
      return [];
    });
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    if (this.dead) return;
    checkLimits(batch, this.sendLimits);
    if (this.connection === undefined || this.#blocked) {
      const cause = new Error("there is no connection, or it is blocked");
      for (const index of batch.keys()) report(index, { status: "unknown", cause });
      return;
    }
    const inOrder = this.#variant.storesInOrder;
    const done = (): unknown => this.#requests.delete(request);
    const request = new SendRequest(this.#broker, this.#faults, to, batch, report, inOrder, done);
    this.#requests.add(request);
    if (this.#ordered.has(addressName(to))) this.#orderedRequests.add(request);
    request.go();
  }

  receive(from: Source, options: ReceiveOptions, sink: DeliverySink): Promise<Receiver> {
    return this.#later(() => {
      const place = this.#broker.place(from);
      if (place === undefined) throw new MessagingError("not-found", `${addressName(from)} was not declared`);
      if (this.connection === undefined || this.#faults.openFails()) {
        throw new MessagingError("unreachable", "the simulation has no connection");
      }
      const receiver = new SimulatedReceiver(this.#broker, place, options.prefetch, this, sink, this.#variant);
      this.#receivers.add(receiver);
      receiver.attach();
      return receiver;
    });
  }

  quarantine(of: WorkAddress): QuarantineLog {
    const records = this.#broker.quarantine(of);
    return {
      append: (record) =>
        this.#ask(() => {
          records.push(record);
          const { of: message, state } = JSON.parse(record) as { readonly of?: string; readonly state?: string };
          if (message === undefined) return;
          const noted = `${addressName(of)}/${message.split(" ")[0]}`;
          if (state === "over") this.noted.delete(noted);
          else this.noted.add(noted);
        }),
      read: () => this.#ask(() => this.#faults.shuffle(records)),
    };
  }

  /** Has something done at the broker; that it was done may not be told. */
  #ask<Result>(run: () => Result): Promise<Result> {
    const { connection } = this;
    const { time } = this.#broker;
    const drop = connection === undefined || this.#blocked ? "before" : this.#faults.drop();
    return new Promise((resolve, reject) => {
      const fail = (): void => {
        if (!this.dead) reject(new MessagingError("timeout", "no answer in the simulation"));
      };
      time.schedule(() => {
        const arrives = drop !== "before" && this.connection === connection;
        const result = arrives ? run() : undefined;
        time.schedule(() => {
          if (!arrives || drop === "after" || this.connection !== connection) fail();
          else if (!this.dead) resolve(result as Result);
        }, this.latency());
      }, this.latency());
    });
  }

  async depth(): Promise<Depth> {
    return { ready: 0, unsettled: undefined, exact: false };
  }

  /** Cuts the connection; the broker notices after `noticedMs`, and it is made again after `againMs`. */
  cut(noticedMs: number, againMs: number): void {
    if (this.dead || this.connection === undefined) return;
    const cause = new MessagingError("unreachable", "the simulation cut the connection");
    this.#drop(noticedMs, false);
    for (const receiver of this.#receivers) receiver.lost(cause);
    this.#signals?.down(cause);
    const signals = this.#signals;
    this.#broker.time.schedule(
      () => {
        if (this.dead || this.#signals !== signals || this.connection !== undefined) return;
        this.connection = {};
        this.#blocked = false;
        for (const receiver of this.#receivers) receiver.attach();
        signals?.up();
      },
      Math.max(againMs, noticedMs + 1),
    );
  }

  #drop(noticedMs: number, silent: boolean): void {
    this.connection = undefined;
    for (const request of [...this.#requests]) request.cut(this.#orderedRequests.has(request), silent);
    this.#requests.clear();
    const receivers = [...this.#receivers];
    if (noticedMs === 0) for (const receiver of receivers) receiver.detach(true);
    else this.#broker.time.schedule(() => receivers.forEach((receiver) => void receiver.detach(true)), noticedMs);
  }

  block(ms: number): void {
    if (this.dead || this.connection === undefined || this.#blocked) return;
    const { connection } = this;
    this.#blocked = true;
    this.#signals?.blocked("the simulation has no memory left");
    this.#broker.time.schedule(() => {
      if (this.dead || this.connection !== connection || !this.#blocked) return;
      this.#blocked = false;
      this.#signals?.unblocked();
    }, ms);
  }

  /** The process is gone without a word. What it held comes back when the broker notices. */
  kill(): void {
    this.dead = true;
    this.#drop(LONGEST_LATENCY_MS + 10, true);
  }

  close(): Promise<void> {
    return this.#later(() => {
      this.#drop(0, false);
      this.#receivers.clear();
      this.#signals = undefined;
    });
  }
}

function checkLimits(batch: readonly OutgoingMessage[], limits: SendLimits): void {
  const bytes = batch.reduce((sum, message) => sum + message.size, 0);
  const fits = batch.length <= limits.maxBatchMessages && (batch.length === 1 || bytes <= limits.maxBatchBytes);
  if (!fits || batch.length === 0) throw new Error(`a batch of ${batch.length} messages and ${bytes} bytes`);
}

function capabilitiesOf(variant: Variant): Capabilities {
  const native = { support: "native", note: "by the simulation" } as const;
  const none = { support: "unsupported", note: "not in the simulation" } as const;
  return {
    order: native,
    delay: { ...(variant.maxDelayMs === 0 ? none : native), maxMs: variant.maxDelayMs },
    priority: { ...none, levels: 1 },
    ttl: native,
    rewind: none,
    fanOut: native,
    routingFilter: none,
    lease: variant.leaseMs === undefined ? none : native,
    deduplication: none,
    transactions: none,
    durable: native,
    maxMessageBytes: 10_000,
    maxHeaders: 10,
    maxHeaderBytes: 1_000,
  };
}
