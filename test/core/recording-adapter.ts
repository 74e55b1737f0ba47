import type {
  Adapter,
  DeadLetterResult,
  DeliverySink,
  Depth,
  IncomingMessage,
  OutgoingMessage,
  QuarantineLog,
  ReceiveOptions,
  Receiver,
  SendLimits,
  SendReport,
} from "../../core/adapter.ts";
import { type Address, addressName, type Source } from "../../core/address.ts";
import type { Capabilities } from "../../core/capabilities.ts";
import type { MessagingError } from "../../core/errors.ts";

export const LIMITS: SendLimits = { maxBatchMessages: 10, maxBatchBytes: 1_000, maxBatchesInFlight: 2 };

/** Everything can be had, apart from what is named here. */
export function capabilities(...unsupported: readonly string[]): Capabilities {
  const of = (name: string) => {
    if (unsupported.includes(name)) return { support: "unsupported", note: "not here" } as const;
    return { support: "native", note: "for tests" } as const;
  };
  return {
    order: of("order"),
    delay: { ...of("delay"), maxMs: unsupported.includes("delay") ? 0 : 10_000 },
    priority: { ...of("priority"), levels: 10 },
    ttl: of("ttl"),
    rewind: of("rewind"),
    fanOut: of("fanOut"),
    routingFilter: of("routingFilter"),
    lease: of("lease"),
    deduplication: of("deduplication"),
    transactions: of("transactions"),
    durable: of("durable"),
    maxMessageBytes: 1_000,
    maxHeaders: 3,
    maxHeaderBytes: 100,
  };
}

/** A batch as the engine handed it over. */
export interface Handed {
  readonly to: Address;
  readonly batch: readonly OutgoingMessage[];
  readonly report: SendReport;
}

/** A receiver that was opened, and what the engine did with it. */
export interface Opened {
  readonly from: Source;
  readonly options: ReceiveOptions;
  readonly sink: DeliverySink;
  readonly settled: { readonly token: unknown; readonly action: "ack" | "requeue" }[];
  /** The prefetch that was set last. */
  prefetch: number;
  closed: boolean;
}

/** An adapter without a broker: it keeps what it is given, and the test says what becomes of it. */
export class RecordingAdapter implements Adapter {
  readonly name = "recording";
  readonly capabilities: Capabilities;
  readonly sendLimits: SendLimits;
  readonly handed: Handed[] = [];
  readonly opened: Opened[] = [];
  /** Confirms at once unless this is set. */
  holds = false;
  /** Why a message is refused; undefined for what is taken. */
  refusal: ((to: Address, message: OutgoingMessage) => MessagingError | undefined) | undefined = undefined;
  /** Moves messages to the dead letters by means of the broker, if it is set before anything is received. */
  moves: ((token: unknown, letter: OutgoingMessage) => DeadLetterResult) | undefined = undefined;
  /** Fails to receive from what this names. */
  refuses: ((from: Source) => boolean) | undefined = undefined;
  /** The records of its only quarantine log. */
  readonly records: string[] = [];
  readonly log: QuarantineLog = {
    append: (record) => {
      this.logWrites++;
      return this.#unlessRefused(() => void this.records.push(record));
    },
    read: () => this.#unlessRefused(() => [...this.records]),
  };
  /** Why the log can be neither written nor read, if it cannot. */
  logRefusal: MessagingError | undefined = undefined;
  /** What answers of the log wait for. */
  logWait: Promise<void> | undefined = undefined;
  /** How often the log was to be written. */
  logWrites = 0;
  signals: Parameters<Adapter["open"]>[0] | undefined = undefined;
  physical: (address: Address) => string = addressName;

  constructor(limits: SendLimits = LIMITS, offered: Capabilities = capabilities()) {
    this.sendLimits = limits;
    this.capabilities = offered;
  }

  quarantine(): QuarantineLog {
    return this.log;
  }

  #unlessRefused = async <Result>(use: () => Result): Promise<Result> => {
    if (this.logRefusal !== undefined) throw this.logRefusal;
    const used = use();
    await this.logWait;
    return used;
  };

  physicalName(address: Address): string {
    return this.physical(address);
  }

  async open(signals: Parameters<Adapter["open"]>[0]): Promise<void> {
    this.signals = signals;
  }

  async declare(): Promise<readonly []> {
    return [];
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    this.handed.push({ to, batch, report });
    if (this.holds) return;
    for (const [index, message] of batch.entries()) {
      const error = this.refusal?.(to, message);
      report(index, error === undefined ? { status: "confirmed" } : { status: "rejected", error });
    }
  }

  async receive(from: Source, options: ReceiveOptions, sink: DeliverySink): Promise<Receiver> {
    if (this.refuses?.(from)) throw new Error("refused by the test");
    const opened: Opened = { from, options, sink, settled: [], prefetch: options.prefetch, closed: false };
    this.opened.push(opened);
    const { moves } = this;
    return {
      ...(moves === undefined ? {} : { deadLetter: async (token, letter) => moves(token, letter) }),
      leaseMs: undefined,
      prefetch: (count) => {
        opened.prefetch = count;
      },
      settle: async (batch) => {
        opened.settled.push(...batch);
        return batch.map(() => "settled" as const);
      },
      extend: async (batch) => batch.map(() => true),
      close: async () => {
        opened.closed = true;
      },
    };
  }

  async depth(): Promise<Depth> {
    return { ready: 0, unsettled: 0, exact: true };
  }

  async close(): Promise<void> {}
}

/** A message as the broker would hand it in. */
export function incoming(id: string, more: Partial<IncomingMessage> = {}): IncomingMessage {
  return {
    token: id,
    id,
    key: undefined,
    routingKey: undefined,
    headers: Object.create(null),
    body: Buffer.from("{}"),
    contentType: "application/json",
    redeliveries: 0,
    native: undefined,
    ...more,
  };
}

/** A message on its way out. */
export function outgoingMessage(id: string, more: Partial<OutgoingMessage> = {}): OutgoingMessage {
  return {
    id,
    key: undefined,
    routingKey: undefined,
    headers: Object.create(null),
    body: new Uint8Array(0),
    contentType: "application/json",
    size: 1,
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
    ...more,
  };
}

/** Lets every promise have its say. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
