import type { IncomingMessage } from "../../core/adapter.ts";
import { addressName, type DeadLettersAddress, type WorkAddress } from "../../core/address.ts";
import type { Broker } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { type Clock, pause } from "../../core/clock.ts";
import type { Destination } from "../../core/destination.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { pacedBridge } from "./bridge.ts";
import type { Bridge, BridgeContent, BridgeStatus } from "./bridge-ends.ts";
import type { Changes, Patience } from "./changes.ts";
import { Emptiness, type Reading } from "./emptiness.ts";
import { reportOf } from "./instance-report.ts";
import { SharedPace } from "./pacer.ts";
import type { Plan } from "./plan.ts";
import type { Side } from "./state.ts";
import type { StoredInstance } from "./store.ts";

/** More are not held at once. */
const MOST_HELD = 10_000;
/** Nothing more comes when nothing came for so long, and everything that the broker counted came. */
const STILL_MS = 1_000;
const LOOK_EVERY_MS = 20;

/**
 * The ids of the dead letters of a queue or subscription, batch by batch; taken by nobody, or given back where they have to
 * be held to be looked at.
 */
export async function* deadLetterIds(broker: Broker, of: WorkAddress): AsyncGenerator<readonly string[]> {
  const internals = internalsOf(broker, "migration");
  const address: DeadLettersAddress = { kind: "dead-letters", of };
  const { adapter } = internals;
  if (adapter.browse === undefined) yield await heldIds(internals, address);
  else for await (const batch of adapter.browse(address)) yield batch.map(({ id }) => id);
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
    while (tokens.length < ready && clock.monotonic() - last < STILL_MS) await pause(clock, LOOK_EVERY_MS);
  } finally {
    await receiver.settle(tokens.map((token) => ({ token, action: "requeue" })));
    await receiver.close();
  }
  return [...ids];
}

/** A report that is written now may have been made before; the one after it was not. */
const REPORTS = 2;

/** What the instances hold of a side, for brokers that do not count what is unsettled. */
class Hands {
  readonly #side: Side;
  /** The reports at the first of the looks that found nothing. */
  #since: ReadonlyMap<string, number> | undefined;

  constructor(side: Side) {
    this.#side = side;
  }

  /** Something is there: what was seen before does not count. */
  disturbed(): void {
    this.#since = undefined;
  }

  /** How many deliveries they say they hold; undefined until each has said it since the first look. */
  look(instances: readonly StoredInstance[]): number | undefined {
    const reports = instances.map(({ instance, report }) => ({ instance, report: reportOf(report) }));
    const held = reports.reduce((sum, { report }) => sum + (report.held?.[this.#side] ?? 0), 0);
    if (held > 0) return held;
    this.#since ??= new Map(reports.map(({ instance, report }) => [instance, report.count ?? 0]));
    const since = this.#since;
    const all = reports.every(({ instance, report }) => (report.count ?? 0) >= (since.get(instance) ?? 0) + REPORTS);
    return all ? 0 : undefined;
  }
}

const TELL_EVERY_MS = 500;
const AT_A_TIME = 32;
/** What each of those may have in hand. */
const MESSAGES_EACH = 250;
const BYTES_EACH = 4 * 1024 * 1024;

/** What is moved, and how. */
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

/** What stands on a broker that nobody publishes to any more: moved, or waited for. */
export class Leftovers {
  readonly #parts: LeftoversParts;

  constructor(parts: LeftoversParts) {
    this.#parts = parts;
  }

  /**
   * Moves what nobody handles: the dead letters of everything, and the messages of what is not ordered. What is
   * ordered is left to its consumers, since behind what was published to the other broker it would come too late.
   *
   * Several sources at a time, because a broker that estimates has to say for `emptyForMs` that one is empty. What is done is
   * noted in the state: whoever goes on after a crash, or for want of patience, does not begin anew.
   */
  async move(side: Side, from: Broker, to: Broker): Promise<void> {
    const { plan, changes, clock, rate } = this.#parts;
    const { moved } = (await changes.read()).state;
    const done = new Set(moved?.side === side ? moved.sources : []);
    const pace = new SharedPace(clock, rate);
    const open = [...plan.works()];
    const failures: unknown[] = [];
    const takeNext = async (): Promise<void> => {
      for (let work = open.shift(); work !== undefined; work = open.shift()) {
        const { destination, ordered } = work;
        // In this order: what is handled meanwhile may become a dead letter.
        const contents: readonly BridgeContent[] = ordered ? ["dead-letters"] : ["messages", "dead-letters"];
        try {
          for (const content of contents) await this.#moveOne({ side, from, to, destination, content, done, pace });
        } catch (error) {
          failures.push(error);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_A_TIME }, takeNext));
    // One that cannot be moved stops none of the others, and says more than patience that ended.
    const telling = failures.find((error) => !isMessagingError(error, "timeout")) ?? failures[0];
    if (telling !== undefined) throw telling;
  }

  async #moveOne({ side, from, to, destination, content, done, pace }: Moving): Promise<void> {
    const { changes, emptyForMs, patience } = this.#parts;
    const options = {
      source: destination,
      content,
      emptyForMs,
      maxMessages: MESSAGES_EACH,
      maxBytes: BYTES_EACH,
      onProgress: (status: BridgeStatus) => patience.tell({ waitingFor: "bridge", bridge: status }),
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

  /** Until it is at its end, or patience is. */
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
      const seen = `after ${moved} messages, and before it was seen empty for emptyForMs (${emptyForMs} ms)`;
      const next = "advance or roll back again, which goes on with what is not moved yet, or give more patience";
      throw new MessagingError(
        "timeout",
        `patience (patienceMs, --patience) ended while ${source} was moved, ${seen}; ${next}`,
      );
    }
    const [first] = leftMessages;
    const cause = error ?? first?.error;
    const what =
      error === undefined
        ? `${left} messages of ${source} are refused by the other broker, as ${first?.id} is`
        : `${source} cannot be moved`;
    throw new MessagingError(cause?.code ?? "refused", `${what}; see the cause. They stay where they are`, { cause });
  }

  /**
   * Waits until nothing stands at a side: what its broker counts, and what the instances say they hold, for brokers that do
   * not count what is unsettled.
   */
  async empty(side: Side, broker: Broker): Promise<void> {
    const { plan, changes, clock, emptyForMs, patience } = this.#parts;
    const internals = internalsOf(broker, "migration");
    const open = plan
      .works()
      .map(({ address }) => new Look(new Emptiness(internals, address, emptyForMs), addressName(address)));
    const hands = new Hands(side);
    let told = Number.NEGATIVE_INFINITY;
    for (;;) {
      let waiting: Look | undefined;
      let whole = true;
      await Promise.all(
        open.map(async (look) => {
          look.reading = await look.emptiness.read();
        }),
      );
      for (const look of open) {
        whole &&= look.reading?.whole === true;
        if (look.reading?.empty !== true) waiting ??= look;
      }
      const held: number | undefined =
        waiting === undefined && !whole ? hands.look((await changes.read()).stored.instances) : 0;
      if (waiting === undefined && held === 0) return;
      if (waiting !== undefined || (held ?? 0) > 0) hands.disturbed();
      const source = waiting?.name ?? plan.adapters[side].name;
      const remaining = waiting?.reading?.remaining ?? held ?? 0;
      if (clock.monotonic() - told >= TELL_EVERY_MS) {
        told = clock.monotonic();
        patience.tell({ waitingFor: "empty", source, remaining });
      }
      const every = Math.max(...open.map(({ emptiness }) => emptiness.everyMs));
      const what = `waiting until ${source} of ${plan.adapters[side].name} is empty (${remaining} left${remaining > 0 ? "" : `, but not seen so for emptyForMs, ${emptyForMs} ms`})`;
      await changes.wait(patience, what, every);
    }
  }
}

class Look {
  readonly emptiness: Emptiness;
  readonly name: string;
  reading: Reading | undefined = undefined;

  constructor(emptiness: Emptiness, name: string) {
    this.emptiness = emptiness;
    this.name = name;
  }
}
