import type {
  Adapter,
  DeliverySink,
  DeliveryToken,
  Depth,
  IncomingMessage,
  OutgoingMessage,
  ReceiveOptions,
  Receiver,
  SendReport,
  SendResult,
  Settlement,
  SettleResult,
  Topology,
} from "../../core/adapter.ts";
import { type Address, addressName, describeAddress, type Source, type WorkAddress } from "../../core/address.ts";
import type { Clock } from "../../core/clock.ts";
import { errorOf, type Failures, type SendFailure } from "./failures.ts";
import {
  type HandlerWatch,
  type InFlightDelivery,
  type Ledger,
  type Records,
  renamedTopology,
  renaming,
  workOf,
} from "./ledger.ts";

/** The state that the adapters of a kit share. */
export interface Recording {
  readonly clock: Clock;
  readonly ledger: Ledger;
  readonly records: Records;
  readonly failures: Failures;
  readonly handlers: HandlerWatch;
  /** The sources with a consumer. */
  readonly consumed: Set<Consumed>;
  readonly made: Made;
}

/** A queue or subscription with a consumer. */
interface Consumed {
  readonly work: WorkAddress;
  depth(): Promise<Depth>;
}

/** Wraps an adapter: renames addresses, and records messages and deliveries. */
export function recordingAdapter<Native>(
  inner: Adapter<Native>,
  prefix: string,
  recording: Recording,
): Adapter<Native> {
  const { browse, resolve, rewind, remove } = inner;
  const rename = renaming(prefix);
  return {
    name: inner.name,
    capabilities: inner.capabilities,
    sendLimits: inner.sendLimits,
    physicalName: (address) => inner.physicalName(rename(address)),
    open: (signals) => inner.open(signals),
    declare(topology) {
      recording.ledger.declared(topology);
      recording.made.add(topology);
      return inner.declare(renamedTopology(topology, rename));
    },
    send: (to, batch, report) => send(inner, to, rename(to), batch, report, recording),
    async receive(from, options, sink) {
      const watched = new WatchedDeliveries(from, sink, recording);
      const { subscription } = options;
      const renamed: ReceiveOptions =
        subscription === undefined
          ? options
          : { ...options, subscription: { ...subscription, address: rename(subscription.address) } };
      const receiver = await inner.receive(rename(from), renamed, watched);
      const consumed = { work: workOf(from), depth: () => inner.depth(rename(workOf(from))) };
      if (from.kind === "queue" || from.kind === "subscription") recording.consumed.add(consumed);
      return watched.settlingWith(receiver, () => recording.consumed.delete(consumed));
    },
    quarantine: (of) => inner.quarantine(rename(of)),
    depth: (of) => inner.depth(rename(of)),
    close: () => inner.close(),
    ...(browse === undefined ? {} : { browse: (of) => browse.call(inner, rename(of)) }),
    ...(resolve === undefined ? {} : { resolve: (of, letter) => resolve.call(inner, rename(of), letter) }),
    ...(rewind === undefined ? {} : { rewind: (of, to) => rewind.call(inner, rename(of), to) }),
    ...(remove === undefined ? {} : { remove: (topology) => remove.call(inner, renamedTopology(topology, rename)) }),
  };
}

/** A message of a batch with its result callback. */
interface Passed {
  readonly message: OutgoingMessage;
  readonly report: (result: SendResult) => void;
}

function send(
  inner: Adapter,
  to: Address,
  renamed: Address,
  batch: readonly OutgoingMessage[],
  report: SendReport,
  recording: Recording,
): void {
  const passed: Passed[] = [];
  batch.forEach((message, index) => {
    const copy = recording.ledger.isCopy(to, message);
    const failure = copy ? undefined : recording.failures.ofSend(to);
    if (failure !== undefined && failure.stored !== true) {
      report(index, { status: "rejected", error: errorOf(failure, to) });
      return;
    }
    const forward = (result: SendResult): void => report(index, result);
    passed.push({ message, report: recorded(to, message, copy, failure, forward, recording) });
  });
  if (passed.length === 0) return;
  inner.send(
    renamed,
    passed.map(({ message }) => message),
    (index, result) => passed[index]?.report(result),
  );
}

/** Records the result of a send, and forwards it. */
function recorded(
  to: Address,
  message: OutgoingMessage,
  copy: boolean,
  failure: SendFailure | undefined,
  report: (result: SendResult) => void,
  { clock, ledger, records, handlers }: Recording,
): (result: SendResult) => void {
  const expected = ledger.handedOver(to, message);
  return (result) => {
    if (result.status !== "confirmed") {
      ledger.takenBack(expected);
      report(result);
      return;
    }
    const at = new Date(clock.now());
    if (to.kind === "dead-letters") records.addDead(to.of, message, at);
    else if (!copy) records.addSent(to, message, at);
    // The original of a copy was not handled, even if its handler succeeded.
    if (copy && to.kind !== "topic") handlers.take(addressName(workOf(to)), message.id);
    report(failure === undefined ? result : { status: "rejected", error: errorOf(failure, to) });
  };
}

/** Records the deliveries of one receiver. */
class WatchedDeliveries<Native> implements DeliverySink<Native> {
  readonly #source: Source;
  readonly #sink: DeliverySink<Native>;
  readonly #recording: Recording;
  readonly #inFlight = new Map<DeliveryToken, InFlightDelivery>();

  constructor(source: Source, sink: DeliverySink<Native>, recording: Recording) {
    this.#source = source;
    this.#sink = sink;
    this.#recording = recording;
  }

  deliver(batch: readonly IncomingMessage<Native>[]): void {
    const { ledger } = this.#recording;
    for (const incoming of batch) this.#inFlight.set(incoming.token, ledger.delivered(this.#source, incoming));
    this.#sink.deliver(batch);
  }

  lost(...[tokens, cause]: Parameters<DeliverySink["lost"]>): void {
    for (const token of tokens === "all" ? [...this.#inFlight.keys()] : tokens) this.#ended(token, false);
    this.#sink.lost(tokens, cause);
  }

  revoke(tokens: readonly DeliveryToken[]): void {
    this.#sink.revoke(tokens);
  }

  overdue(...[tokens, cause]: Parameters<NonNullable<DeliverySink["overdue"]>>): void {
    this.#sink.overdue?.(tokens, cause);
  }

  stalled(...[cause]: Parameters<DeliverySink["stalled"]>): void {
    this.#sink.stalled(cause);
  }

  flowing(): void {
    this.#sink.flowing();
  }

  filtered(count: number): void {
    this.#sink.filtered(count);
  }

  /** The receiver for the engine. */
  settlingWith(receiver: Receiver, closing: () => void): Receiver {
    const { deadLetter } = receiver;
    return {
      ...(deadLetter === undefined ? {} : { deadLetter: this.#moving(deadLetter.bind(receiver)) }),
      get leaseMs() {
        return receiver.leaseMs;
      },
      prefetch: (count) => receiver.prefetch(count),
      settle: async (batch) => {
        const results = await receiver.settle(batch);
        for (const [index, settlement] of batch.entries()) this.#settled(settlement, results[index] ?? "fenced");
        return results;
      },
      extend: (batch) => receiver.extend(batch),
      close: async () => {
        closing();
        await receiver.close();
        for (const token of [...this.#inFlight.keys()]) this.#ended(token, false);
      },
    };
  }

  /** Records dead letters that the broker itself makes. */
  #moving(deadLetter: NonNullable<Receiver["deadLetter"]>): NonNullable<Receiver["deadLetter"]> {
    return async (token, letter) => {
      const result = await deadLetter(token, letter);
      if (result.status === "settled") {
        const { clock, handlers, records } = this.#recording;
        const work = workOf(this.#source);
        handlers.take(addressName(work), letter.id);
        records.addDead(work, letter, new Date(clock.now()));
        this.#ended(token, true);
      } else if (result.status === "fenced") this.#ended(token, false);
      return result;
    };
  }

  #settled({ token, action }: Settlement, result: SettleResult): void {
    const done = action === "ack" && result === "settled";
    const delivery = this.#ended(token, done);
    if (delivery === undefined || !done) return;
    const { clock, records, handlers } = this.#recording;
    const work = workOf(this.#source);
    if (this.#source.kind === "dead-letters") {
      records.removeDead(work, delivery.id);
      return;
    }
    const success = handlers.take(addressName(work), delivery.id);
    if (success !== undefined) records.addConsumed(work, success, new Date(clock.now()));
  }

  #ended(token: DeliveryToken, done: boolean): InFlightDelivery | undefined {
    const delivery = this.#inFlight.get(token);
    if (delivery === undefined) return undefined;
    this.#inFlight.delete(token);
    this.#recording.ledger.ended(delivery, done);
    return delivery;
  }
}

/** What the kit created on the broker, over all its adapters. */
export class Made {
  readonly #queues = new Map<string, Topology["queues"][number]>();
  readonly #topics = new Map<string, Topology["topics"][number]>();
  readonly #subscriptions = new Map<string, Topology["subscriptions"][number]>();

  add({ mode, queues, topics, subscriptions }: Topology): void {
    if (mode !== "create") return;
    keep(this.#queues, queues);
    keep(this.#topics, topics);
    keep(this.#subscriptions, subscriptions);
  }

  /** Removes everything, if the adapter can. The adapter must be closed. */
  async remove(adapter: Adapter): Promise<void> {
    if (adapter.remove === undefined || this.#queues.size + this.#topics.size + this.#subscriptions.size === 0) return;
    const nothing = (): void => {};
    await adapter.open({ up: nothing, down: nothing, blocked: nothing, unblocked: nothing, notice: nothing });
    try {
      await adapter.remove({
        mode: "none",
        queues: [...this.#queues.values()],
        topics: [...this.#topics.values()],
        subscriptions: [...this.#subscriptions.values()],
      });
    } finally {
      await adapter.close();
    }
  }
}

function keep<Declaration extends { readonly address: Address }>(
  known: Map<string, Declaration>,
  declarations: readonly Declaration[],
): void {
  for (const declaration of declarations) known.set(describeAddress(declaration.address), declaration);
}
