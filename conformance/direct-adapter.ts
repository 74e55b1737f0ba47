import type {
  Adapter,
  DeliverySink,
  DeliveryToken,
  IncomingMessage,
  OutgoingMessage,
  ReceiveOptions,
  Receiver,
  SendResult,
  Settlement,
  SettleResult,
  Topology,
} from "../core/adapter.ts";
import type { Address, Source } from "../core/address.ts";
import type { MessagingError } from "../core/errors.ts";

/** An adapter used directly, without the engine. */
export class DirectAdapter {
  readonly adapter: Adapter;
  /** The connection signals of the adapter, in order. */
  readonly signals: string[] = [];

  private constructor(adapter: Adapter) {
    this.adapter = adapter;
  }

  static async open(adapter: Adapter): Promise<DirectAdapter> {
    const direct = new DirectAdapter(adapter);
    const note = (signal: string) => (): void => void direct.signals.push(signal);
    await adapter.open({
      up: note("up"),
      down: note("down"),
      blocked: note("blocked"),
      unblocked: note("unblocked"),
      notice: note("notice"),
    });
    return direct;
  }

  /** Declares, and throws the first problem. */
  async declare(topology: Partial<Topology>): Promise<void> {
    const [problem] = await this.adapter.declare({
      mode: "create",
      queues: [],
      topics: [],
      subscriptions: [],
      ...topology,
    });
    if (problem !== undefined) throw problem;
  }

  /** Sends one batch and waits for all results. */
  send(to: Address, batch: readonly OutgoingMessage[]): Promise<readonly SendResult[]> {
    return new Promise((resolve) => {
      const results: SendResult[] = [];
      let open = batch.length;
      this.adapter.send(to, batch, (index, result) => {
        results[index] = result;
        if (--open === 0) resolve(results);
      });
    });
  }

  /** Sends one batch and throws unless every message is confirmed. */
  async confirmed(to: Address, batch: readonly OutgoingMessage[]): Promise<void> {
    for (const result of await this.send(to, batch)) {
      if (result.status === "rejected") throw result.error;
      if (result.status === "unknown") throw result.cause;
    }
  }

  async receive(from: Source, options: ReceiveOptions): Promise<Inbox> {
    const inbox = new Inbox();
    inbox.receiver = await this.adapter.receive(from, options, inbox);
    return inbox;
  }

  close(): Promise<void> {
    return this.adapter.close();
  }
}

/** Everything that a receiver delivered. */
export class Inbox implements DeliverySink {
  readonly messages: IncomingMessage[] = [];
  readonly lostTokens: DeliveryToken[] = [];
  /** The most unsettled deliveries at one time. */
  mostUnsettled = 0;
  receiver: Receiver | undefined;
  readonly #unsettled = new Set<DeliveryToken>();

  deliver(batch: readonly IncomingMessage[]): void {
    this.messages.push(...batch);
    for (const { token } of batch) this.#unsettled.add(token);
    this.mostUnsettled = Math.max(this.mostUnsettled, this.#unsettled.size);
  }

  lost(tokens: readonly DeliveryToken[] | "all"): void {
    const gone = tokens === "all" ? [...this.#unsettled] : tokens;
    this.lostTokens.push(...gone);
    for (const token of gone) this.#unsettled.delete(token);
  }

  revoke(): void {
    // Cases ignore it: what they settle too late is lost.
  }

  flowing(): void {}

  filtered(): void {}

  stalled(_cause: MessagingError): void {
    // The receiver keeps trying, and the case keeps waiting.
  }

  /** The number of unsettled deliveries. */
  get unsettled(): number {
    return this.#unsettled.size;
  }

  settle(messages: readonly IncomingMessage[], action: Settlement["action"]): Promise<readonly SettleResult[]> {
    if (this.receiver === undefined) throw new Error("settled before the receiver was open");
    for (const { token } of messages) this.#unsettled.delete(token);
    return this.receiver.settle(messages.map(({ token }) => ({ token, action })));
  }
}

/** A message for an adapter, with defaults for what is not given. */
export function outgoing(message: Pick<OutgoingMessage, "id"> & Partial<OutgoingMessage>): OutgoingMessage {
  const body = message.body ?? new Uint8Array();
  return {
    key: undefined,
    routingKey: undefined,
    headers: Object.create(null) as Record<string, string>,
    body,
    contentType: "application/json",
    size: body.length,
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
    ...message,
  };
}
