import type { IncomingMessage } from "../../core/adapter.ts";
import { addressName, type DeadLettersAddress, type WorkAddress } from "../../core/address.ts";
import type { Broker } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { type Clock, pause } from "../../core/clock.ts";
import { forEachAtOnce } from "../../core/concurrency.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { shownId } from "../../core/foreign.ts";
import { Emptiness, pacedBridge, type Reading } from "./bridge.ts";
import type { Bridge, BridgeContent, BridgeStatus } from "./bridge-ends.ts";
import { SharedPace } from "./bridge-run.ts";
import type { Changes, Patience } from "./changes.ts";
import type { Plan } from "./plan.ts";
import type { Side } from "./state.ts";
import type { StoredInstance } from "./store.ts";

/** The most dead letters held at once. */
const MOST_HELD = 10_000;
/** After so long without a delivery, no more are expected. */
const IDLE_MS = 1_000;
const POLL_MS = 20;

/**
 * Yields the ids of the dead letters of a queue or subscription in batches. On brokers that cannot browse, the dead letters
 * are received and requeued.
 */
export async function* deadLetterIds(broker: Broker, of: WorkAddress): AsyncGenerator<readonly string[]> {
  const internals = internalsOf(broker, "migration");
  const address: DeadLettersAddress = { kind: "dead-letters", of };
  const { adapter } = internals;
  if (adapter.browse === undefined) yield await heldIds(internals, address);
  else {
    for await (const batch of adapter.browse(address)) {
      // An unreadable message represents dead letters that the adapter could not read.
      yield batch.filter(({ unreadable }) => unreadable === undefined).map(({ id }) => id);
    }
  }
}

async function heldIds({ adapter, clock }: BrokerInternals, address: DeadLettersAddress): Promise<readonly string[]> {
  const { ready, unsettled = 0 } = await adapter.depth(address);
  if (ready + unsettled === 0) return [];
  const ids = new Set<string>();
  const tokens: unknown[] = [];
  let last = clock.monotonic();
  const deliver = (batch: readonly IncomingMessage[]): void => {
    last = clock.monotonic();
    for (const { id, token } of batch) {
      ids.add(id);
      tokens.push(token);
    }
  };
  const ignore = (): void => {};
  const sink = { deliver, lost: ignore, revoke: ignore, stalled: ignore, flowing: ignore, filtered: ignore };
  const receiver = await adapter.receive(address, { prefetch: MOST_HELD, ordered: false }, sink);
  try {
    while (tokens.length < ready && clock.monotonic() - last < IDLE_MS) await pause(clock, POLL_MS);
  } finally {
    await receiver.settle(tokens.map((token) => ({ token, action: "requeue" })));
    await receiver.close();
  }
  return [...ids];
}

/** The next report may be older than the check. The second one is not. */
const REPORTS = 2;

/** What the instances have in flight at a side, for brokers that do not report it. */
class InFlightReports {
  readonly #side: Side;
  /** The report numbers at the first check that found nothing. */
  #since: ReadonlyMap<string, number> | undefined;

  constructor(side: Side) {
    this.#side = side;
  }

  reset(): void {
    this.#since = undefined;
  }

  /** The deliveries in flight, as reported; undefined until every instance has reported since the first check. */
  check(instances: readonly StoredInstance[]): number | undefined {
    const reports = instances.map(({ instance, report }) => ({ instance, report: reportOf(report) }));
    const held = reports.reduce((sum, { report }) => sum + (report.held?.[this.#side] ?? 0), 0);
    if (held > 0) return held;
    this.#since ??= new Map(reports.map(({ instance, report }) => [instance, report.count ?? 0]));
    const since = this.#since;
    const all = reports.every(({ instance, report }) => (report.count ?? 0) >= (since.get(instance) ?? 0) + REPORTS);
    return all ? 0 : undefined;
  }
}

const PROGRESS_MS = 500;
/** The least patience, as a multiple of `emptyForMs`: the readings take time too. */
const LEAST_PATIENCE = 1.5;
const MOST_BRIDGES = 32;
/** The limits of each bridge. */
const BRIDGE_MESSAGES = 250;
const BRIDGE_BYTES = 4 * 1024 * 1024;

/** The parts of {@link Leftovers}. */
interface LeftoversParts {
  readonly plan: Plan;
  readonly changes: Changes;
  readonly clock: Clock;
  readonly emptyForMs: number;
  readonly rate: number | undefined;
  readonly patience: Patience;
}

interface Moving {
  readonly side: Side;
  readonly from: Broker;
  readonly to: Broker;
  readonly destination: Destination;
  readonly content: BridgeContent;
  /** The sources that were moved before. */
  readonly done: ReadonlySet<string>;
  readonly pace: SharedPace;
}

/** What is left on a broker that no process publishes to any more. Moves it, or waits until it is handled. */
export class Leftovers {
  readonly #parts: LeftoversParts;

  constructor(parts: LeftoversParts) {
    this.#parts = parts;
  }

  /**
   * Moves all dead letters, and the messages of unordered destinations. Ordered ones are left to their consumers: moved
   * behind newer messages on the other broker they would be out of order.
   *
   * Several sources at a time, because on a broker that estimates depths each must be empty for `emptyForMs`. Moved sources
   * are noted in the state, so that a repeated call skips them.
   */
  async move(side: Side, from: Broker, to: Broker): Promise<void> {
    const { plan, changes, clock, rate } = this.#parts;
    await this.#refuseShortPatience(side, from);
    const { moved } = (await changes.read()).state;
    const done = new Set(moved?.side === side ? moved.sources : []);
    const pace = new SharedPace(clock, rate);
    const failures: unknown[] = [];
    await forEachAtOnce(MOST_BRIDGES, plan.works(), async ({ destination, ordered }) => {
      // Dead letters last: messages that are handled meanwhile may become dead letters.
      const contents: readonly BridgeContent[] = ordered ? ["dead-letters"] : ["messages", "dead-letters"];
      try {
        for (const content of contents) await this.#moveOne({ side, from, to, destination, content, done, pace });
      } catch (error) {
        failures.push(error);
      }
    });
    // A source that cannot be moved does not stop the others, and its error says more than a timeout.
    const first = failures.find((error) => !isMessagingError(error, "timeout")) ?? failures[0];
    if (first !== undefined) throw first;
  }

  /** Throws `invalid` if no source could be seen empty in time: every repetition would end without progress. */
  async #refuseShortPatience(side: Side, broker: Broker): Promise<void> {
    const { plan, emptyForMs, patience } = this.#parts;
    const leastMs = Math.ceil(emptyForMs * LEAST_PATIENCE);
    const [first] = plan.works();
    if (first === undefined || patience.forMs >= leastMs) return;
    const emptiness = new Emptiness(internalsOf(broker, "migration"), first.address, emptyForMs);
    if (!(await emptiness.isEstimated())) return;
    const { name } = plan.adapters[side];
    const why = `${name} estimates its counts, so a queue must be seen empty for emptyForMs (${emptyForMs} ms)`;
    throw new MessagingError(
      "invalid",
      `patienceMs (--patience) is ${patience.forMs} ms, and must be at least ${leastMs} ms: ${why}. Nothing was changed`,
    );
  }

  async #moveOne({ side, from, to, destination, content, done, pace }: Moving): Promise<void> {
    const { changes, emptyForMs, patience } = this.#parts;
    const options = {
      source: destination,
      content,
      emptyForMs,
      maxMessages: BRIDGE_MESSAGES,
      maxBytes: BRIDGE_BYTES,
      onProgress: (status: BridgeStatus) => patience.onProgress({ waitingFor: "bridge", bridge: status }),
    };
    const moving = pacedBridge(from, to, options, (wake) => pace.of(wake));
    const { source } = moving.status();
    if (done.has(source)) return;
    await this.#run(moving);
    await changes.amend((state) => {
      const before = state.moved?.side === side ? state.moved.sources : [];
      return { ...state, moved: { side, sources: [...before, source] } };
    });
  }

  /** Runs a bridge until it ends or the time is over. */
  async #run(moving: Bridge): Promise<void> {
    const { patience, clock, emptyForMs } = this.#parts;
    const { source } = moving.status();
    patience.signal?.throwIfAborted();
    const stop = (): void => void moving.stop();
    const timer = clock.schedule(stop, Math.max(patience.until - clock.monotonic(), 0));
    patience.signal?.addEventListener("abort", stop, { once: true });
    const { end, left, moved, leftMessages, error } = await moving.run().finally(() => {
      clock.cancel(timer);
      patience.signal?.removeEventListener("abort", stop);
    });
    patience.signal?.throwIfAborted();
    if (end === "drained" && left === 0) return;
    if (end === "stopped") {
      const seen = `after ${moved} messages, and before it was empty for emptyForMs (${emptyForMs} ms)`;
      const next = "advance or roll back again to continue, or allow more time";
      throw new MessagingError(
        "timeout",
        `the time (patienceMs, --patience) ended while ${source} was moved, ${seen}; ${next}`,
      );
    }
    const [first] = leftMessages;
    const cause = error ?? first?.error;
    const what =
      error === undefined
        ? `${left} messages of ${source} are refused by the other broker, such as ${shownId(first?.id ?? "")}`
        : `${source} cannot be moved`;
    throw new MessagingError(cause?.code ?? "refused", `${what}; see the cause. They stay on this broker`, { cause });
  }

  /**
   * Waits until a side is empty, by its broker's counts. For brokers that do not count messages in flight, the instances
   * report them.
   */
  async empty(side: Side, broker: Broker): Promise<void> {
    const { plan, changes, clock, emptyForMs, patience } = this.#parts;
    const internals = internalsOf(broker, "migration");
    await this.#refuseShortPatience(side, broker);
    const open = plan
      .works()
      .map(({ address }) => new WatchedSource(new Emptiness(internals, address, emptyForMs), addressName(address)));
    const inFlight = new InFlightReports(side);
    let reportedAt = Number.NEGATIVE_INFINITY;
    for (;;) {
      let waiting: WatchedSource | undefined;
      let whole = true;
      await Promise.all(
        open.map(async (watched) => {
          watched.reading = await watched.emptiness.read();
        }),
      );
      for (const watched of open) {
        whole &&= watched.reading?.whole === true;
        if (watched.reading?.empty !== true) waiting ??= watched;
      }
      const held: number | undefined =
        waiting === undefined && !whole ? inFlight.check((await changes.read()).stored.instances) : 0;
      if (waiting === undefined && held === 0) return;
      if (waiting !== undefined || (held ?? 0) > 0) inFlight.reset();
      const source = waiting?.name ?? plan.adapters[side].name;
      const remaining = waiting?.reading?.remaining ?? held ?? 0;
      if (clock.monotonic() - reportedAt >= PROGRESS_MS) {
        reportedAt = clock.monotonic();
        patience.onProgress({ waitingFor: "empty", source, remaining });
      }
      const every = Math.max(...open.map(({ emptiness }) => emptiness.everyMs));
      const what = `waiting until ${source} of ${plan.adapters[side].name} is empty (${remaining} left${remaining > 0 ? "" : `, but not empty for emptyForMs, ${emptyForMs} ms`})`;
      await changes.wait(patience, what, every);
    }
  }
}

class WatchedSource {
  readonly emptiness: Emptiness;
  readonly name: string;
  reading: Reading | undefined = undefined;

  constructor(emptiness: Emptiness, name: string) {
    this.emptiness = emptiness;
    this.name = name;
  }
}

/** The report of an instance. */
interface InstanceReport {
  readonly problem?: string;
  readonly journaled?: boolean;
  /** Deliveries in flight, by side. */
  readonly held?: Readonly<Record<Side, number>>;
  /** The number of the report. */
  readonly count?: number;
}

/** Parses a report; empty if it cannot be parsed. */
export function reportOf(text: string): InstanceReport {
  try {
    const report: unknown = JSON.parse(text);
    return typeof report === "object" && report !== null ? report : {};
  } catch {
    return {};
  }
}
