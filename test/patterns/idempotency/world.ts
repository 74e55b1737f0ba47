import type { Delivery, Handler, HandlerResult } from "../../../core/delivery.ts";
import { MessagingError } from "../../../core/errors.ts";
import {
  type IdempotencyEvent,
  type IdempotencyStore,
  type IdempotentOptions,
  idempotent,
  memoryIdempotencyStore,
  type StoreCall,
} from "../../../patterns/idempotency/index.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";

/** What the store does with a call: answers, fails before or after doing it, or never answers though it does it. */
export type Mood = "well" | "down" | "answer-lost" | "silent";

/** A store whose calls fail as they are told to. */
export class MoodyStore implements IdempotencyStore {
  readonly name = "moody";
  readonly calls: StoreCall[] = [];
  readonly keys = new Set<string>();
  readonly inner: IdempotencyStore;
  mood: Mood = "well";
  /** The moods of some calls; of the others it is {@link mood}. */
  moods: Partial<Record<StoreCall, Mood>> = {};

  constructor(inner: IdempotencyStore) {
    this.inner = inner;
  }

  claim(key: string, leaseMs: number) {
    this.keys.add(key);
    return this.#call("claim", () => this.inner.claim(key, leaseMs));
  }

  renew(key: string, token: string, leaseMs: number) {
    return this.#call("renew", () => this.inner.renew(key, token, leaseMs));
  }

  complete(key: string, token: string, retentionMs: number) {
    return this.#call("complete", () => this.inner.complete(key, token, retentionMs));
  }

  release(key: string, token: string) {
    return this.#call("release", () => this.inner.release(key, token));
  }

  clean(limit: number) {
    return this.#call("clean", () => this.inner.clean(limit));
  }

  made(call: StoreCall): number {
    return this.calls.filter((one) => one === call).length;
  }

  async #call<T>(call: StoreCall, action: () => Promise<T>): Promise<T> {
    this.calls.push(call);
    const mood = this.moods[call] ?? this.mood;
    if (mood === "down") throw new MessagingError("unreachable", "the store is down");
    const answer = await action();
    if (mood === "answer-lost") throw new MessagingError("unreachable", "the connection broke");
    return mood === "silent" ? new Promise(() => {}) : answer;
  }
}

/** A message as a handler gets it, and its engine's hand. */
export interface Sent {
  readonly delivery: Delivery;
  abort(reason?: unknown): void;
}

export function sent(id: string, place: Partial<Delivery> = {}): Sent {
  const controller = new AbortController();
  const delivery: Delivery = {
    id,
    key: undefined,
    routingKey: undefined,
    headers: {},
    attempt: 1,
    firstPublishedAt: new Date(0),
    destination: "orders",
    subscription: undefined,
    signal: controller.signal,
    deadlineAt: new Date(300_000),
    remainingMs: 300_000,
    native: undefined,
    ...place,
  };
  return { delivery, abort: (reason = new MessagingError("closed", "stopped")) => controller.abort(reason) };
}

/** How a handler ended: with what it returned, or what it threw. */
export type End = { readonly returned: HandlerResult } | { readonly threw: unknown };

/** A handler under {@link idempotent} in a time of its own. */
export function world(options: IdempotentOptions<unknown> = {}) {
  const time = new VirtualTime();
  const clock = new ProcessClock(time);
  const store = new MoodyStore(memoryIdempotencyStore({ clock }));
  const events: IdempotencyEvent[] = [];
  const use = idempotent(store, { clock, onEvent: (event) => events.push(event), ...options });

  /** Begins to handle a message. */
  const begin = (message: Sent, handler: Handler<unknown>, body: unknown = {}) => {
    const state: { end: End | undefined } = { end: undefined };
    Promise.resolve(use(handler)(body, message.delivery)).then(
      (returned) => {
        state.end = { returned };
      },
      (threw: unknown) => {
        state.end = { threw };
      },
    );
    return state;
  };
  const until = async (condition: () => boolean): Promise<void> => {
    if (!(await time.until(condition, time.now + 3_600_000))) throw new Error("waited an hour in vain");
  };
  /** Handles a message, for as long as it takes. */
  const handle = async (message: Sent, handler: Handler<unknown>, body?: unknown): Promise<End> => {
    const state = begin(message, handler, body);
    await until(() => state.end !== undefined);
    return state.end as End;
  };
  const sleep = (ms: number): Promise<void> => new Promise((resolve) => void clock.schedule(resolve, ms));
  const types = (): string[] => events.map(({ type }) => type);
  return { time, clock, store, events, types, begin, handle, until, sleep };
}
