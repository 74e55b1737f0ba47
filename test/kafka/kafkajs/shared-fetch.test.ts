import { describe, expect, it } from "vitest";
import type { Fetched, WireFetch } from "../../../adapters/kafka/kafkajs/log-exchanges.ts";
import { SharedFetch } from "../../../adapters/kafka/kafkajs/shared-fetch.ts";
import type { FetchedFrom, FetchedPartition } from "../../../adapters/kafka/port.ts";
import { MessagingError } from "../../../core/errors.ts";
import { until } from "../../brokers/until.ts";

const PATIENCE_MS = 240_000;
const SESSION = 77;

/** A poll as it came to the node, and what answers it. */
interface Came {
  readonly role: "long" | "quick";
  readonly request: WireFetch;
  readonly answer: (fetched: Partial<Fetched>) => void;
  readonly fail: (error: unknown) => void;
  readonly isOpen: () => boolean;
}

/** A node that answers when it is told to, or at once where nothing comes (`quiet`). */
function scripted() {
  const came: Came[] = [];
  const quiet = { long: false, quick: false };
  const ended: unknown[] = [];
  const shared = new SharedFetch((role, request, asked) => {
    const { promise, resolve, reject } = Promise.withResolvers<Fetched>();
    let open = true;
    const close = (): void => {
      open = false;
    };
    void promise.then(close, close);
    const isFull = (request.session?.epoch ?? -1) <= 0;
    const nothing = isFull ? request.partitions.map((wanted) => piece(wanted)) : [];
    const sessionId = role === "long" ? SESSION : 0;
    const answer = (fetched: Partial<Fetched>): void =>
      resolve({ throttledMs: 0, error: undefined, sessionId, partitions: nothing, ...fetched });
    const end = async (error: unknown): Promise<void> => {
      ended.push(error);
      reject(error);
    };
    asked({ end } as never);
    came.push({ role, request, answer, fail: reject, isOpen: () => open });
    if (quiet[role]) setTimeout(() => answer({}), Math.min(request.maxWaitMs, 20));
    return promise;
  });
  const last = async (count: number, role?: Came["role"]): Promise<Came> => {
    const those = () => came.filter((one) => role === undefined || one.role === role);
    await until(`${count} polls`, PATIENCE_MS, async () => expect(those().length).toBeGreaterThanOrEqual(count));
    return those()[count - 1] as Came;
  };
  return { shared, came, quiet, ended, last };
}

const id = (topic: string): string => topic.padEnd(22, "_");

const from = (topic: string, partition: number, offset = 0, maxBytes = 1_000): FetchedFrom => ({
  topic,
  topicId: id(topic),
  partition,
  offset,
  maxBytes,
});

const piece = ({ topic, partition }: Pick<FetchedFrom, "topic" | "partition">, text = ""): FetchedPartition => ({
  topic,
  partition,
  error: undefined,
  highWatermark: 9,
  lastStableOffset: 9,
  logStartOffset: 0,
  abortedTransactions: [],
  records: Buffer.from(text),
});

const ask = (partitions: readonly FetchedFrom[], maxWaitMs = 60_000) => ({
  maxWaitMs,
  minBytes: 1,
  maxBytes: 1_000,
  partitions,
});

const textsOf = (answer: readonly FetchedPartition[]): readonly string[] =>
  answer.map(({ records }) => String(records));

/** Whether a promise has settled; gives others their turns. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = (): void => {
    settled = true;
  };
  promise.then(settle, settle);
  await new Promise(setImmediate);
  return settled;
}

describe("fetches of a node", () => {
  it("go out together, and each answer goes to those whom it concerns", async () => {
    const { shared, came, last } = scripted();
    const one = shared.fetch(ask([from("a", 0), from("a", 1)]));
    const other = shared.fetch(ask([from("b", 0)]));
    const first = await last(1);
    expect(first.request.partitions).toEqual([from("a", 0), from("a", 1), from("b", 0)]);
    first.answer({ partitions: [piece(from("a", 0), "new"), piece(from("a", 1)), piece(from("b", 0))] });
    expect(textsOf(await one.answer)).toEqual(["new", ""]);
    expect(await isSettled(other.answer)).toBe(false);
    expect((await last(2)).request.partitions).toEqual([from("b", 0)]);
    expect(came).toHaveLength(2);
  });

  it("are asked about with others that come while a poll is under way", async () => {
    const { shared, last } = scripted();
    void shared.fetch(ask([from("a", 0)]));
    await last(1);
    const late = shared.fetch(ask([from("b", 0)]));
    const second = await last(2);
    second.answer({ partitions: [piece(from("b", 0), "at once")] });
    expect(textsOf(await late.answer)).toEqual(["at once"]);
  });

  it("do not keep the whole answer for one piece of it", async () => {
    const { shared, last } = scripted();
    const one = shared.fetch(ask([from("a", 0)]));
    void shared.fetch(ask([from("b", 0)]));
    const whole = Buffer.alloc(100_000, "x");
    const small = { ...piece(from("a", 0)), records: whole.subarray(0, 10) };
    const large = { ...piece(from("b", 0)), records: whole.subarray(10) };
    (await last(1)).answer({ partitions: [small, large] });
    const [own] = await one.answer;
    expect(own?.records.equals(small.records)).toBe(true);
    expect(own?.records.buffer).not.toBe(whole.buffer);
  });

  it("of one partition are one where they begin at the same offset, and take turns where they do not", async () => {
    const { shared, last, quiet } = scripted();
    quiet.quick = false;
    const [one, same] = [shared.fetch(ask([from("a", 0, 5)])), shared.fetch(ask([from("a", 0, 5)]))];
    const elsewhere = shared.fetch(ask([from("a", 0, 2)]));
    const first = await last(1);
    expect(first.request.partitions).toEqual([from("a", 0, 5)]);
    const second = await last(2);
    expect(second.request.partitions).toEqual([from("a", 0, 2)]);
    second.answer({ partitions: [piece(from("a", 0), "two")] });
    first.answer({ partitions: [piece(from("a", 0), "five")] });
    expect(await Promise.all([one, same, elsewhere].map(async ({ answer }) => textsOf(await answer)))).toEqual([
      ["five"],
      ["five"],
      ["two"],
    ]);
  });

  it("at several offsets of one partition do not wait for those that are at its end", async () => {
    const { shared, came, last } = scripted();
    for (let offset = 0; offset < 4; offset++) void shared.fetch(ask([from("a", 0, offset)]));
    await last(2);
    const seen = new Set<number>();
    for (let poll = 0; poll < 8; poll++) {
      const next = await last(poll + 1);
      for (const { offset } of next.request.partitions) seen.add(offset);
      next.answer({});
    }
    expect([...seen].sort()).toEqual([0, 1, 2, 3]);
    expect(came.every(({ request }) => request.maxWaitMs <= 50)).toBe(true);
  });

  it("that wait for nothing in particular are one long poll, of which only changes are said", async () => {
    const { shared, came, quiet, last } = scripted();
    quiet.quick = true;
    const many = Array.from({ length: 20 }, (_, partition) => shared.fetch(ask([from("a", partition)])));
    let polls = 1;
    let all = await last(polls, "long");
    expect(all.request.session).toMatchObject({ id: 0, epoch: 0 });
    // On a busy machine some have become idle before the others.
    for (let idle = all.request.partitions.length; idle < 20; idle += all.request.partitions.length) {
      all.answer({});
      all = await last(++polls, "long");
    }
    all.answer({});
    const second = await last(polls + 1, "long");
    expect(second.request.partitions).toEqual([]);
    expect(second.request.session).toMatchObject({ id: SESSION, epoch: polls, forgotten: [] });
    // What comes is no reason to ask the others anew.
    second.answer({ partitions: [piece(from("a", 3), "three")] });
    expect(textsOf((await many[3]?.answer) ?? [])).toEqual(["three"]);
    const third = await last(polls + 2, "long");
    expect(third.request.session).toMatchObject({ id: SESSION, epoch: polls + 1, forgotten: [from("a", 3)] });
    expect(third.request.partitions).toEqual([]);
    const before = came.filter(({ role }) => role === "quick").length;
    const again = shared.fetch(ask([from("a", 3, 1)]));
    expect((await last(before + 1, "quick")).request.partitions).toEqual([from("a", 3, 1)]);
    again.cancel();
  });

  it("say everything again where the node has forgotten it, or an answer was lost", async () => {
    const { shared, quiet, last } = scripted();
    quiet.quick = true;
    const idle = shared.fetch(ask([from("a", 0), from("a", 1)]));
    (await last(1, "long")).answer({});
    (await last(2, "long")).answer({ error: "FETCH_SESSION_ID_NOT_FOUND", sessionId: 0 });
    const full = await last(3, "long");
    expect(full.request.partitions).toHaveLength(2);
    expect(full.request.session).toMatchObject({ epoch: 0 });
    expect(await isSettled(idle.answer)).toBe(false);
    full.answer({});
    (await last(4, "long")).fail(new MessagingError("unreachable", "it broke"));
    await expect(idle.answer).rejects.toThrow("it broke");
    void shared.fetch(ask([from("a", 0)]));
    expect((await last(5, "long")).request.session).toMatchObject({ epoch: 0 });
  });

  it("tell what is known of what stands still when their time is over", async () => {
    const { shared, quiet } = scripted();
    quiet.quick = true;
    quiet.long = true;
    const { answer } = shared.fetch(ask([from("a", 0), from("a", 1)], 3_000));
    expect((await answer).map(({ highWatermark }) => highWatermark)).toEqual([9, 9]);
  });

  it("fail alone where they cannot be asked for", async () => {
    const { shared, last } = scripted();
    const wrong = [from("a", 0, Number.NaN), { ...from("a", 1), topicId: "" }];
    for (const one of wrong) await expect(shared.fetch(ask([one])).answer).rejects.toThrow(RangeError);
    await expect(shared.fetch(ask([from("a", 0), from("a", 0)])).answer).rejects.toThrow("twice");
    const right = shared.fetch(ask([from("a", 2)]));
    (await last(1)).answer({ partitions: [piece(from("a", 2), "x")] });
    expect(textsOf(await right.answer)).toEqual(["x"]);
  });

  it("that are cancelled leave the others alone, but for a node that is not trusted any more", async () => {
    const { shared, last, ended, came } = scripted();
    const gone = shared.fetch(ask([from("a", 0)]));
    const stays = shared.fetch(ask([from("b", 0)]));
    const first = await last(1);
    gone.cancel();
    expect(ended).toEqual([]);
    first.answer({});
    expect((await last(2)).request.partitions).toEqual([from("b", 0)]);
    const suspicious = shared.fetch(ask([from("c", 0)]));
    const third = await last(3);
    const late = shared.fetch(ask([from("d", 0)]));
    suspicious.cancel(new MessagingError("unreachable", "silent"));
    expect(ended).toHaveLength(1);
    expect(third.isOpen()).toBe(true);
    await until("others asked for anew", PATIENCE_MS, async () => {
      expect(came.at(-1)?.request.partitions).toContainEqual(from("d", 0));
    });
    expect(await isSettled(stays.answer)).toBe(false);
    expect(await isSettled(late.answer)).toBe(false);
  });

  it("rest for as long as the node says that a quota is used up", async () => {
    const { shared, came, last } = scripted();
    const slowed = shared.fetch(ask([from("a", 0)]));
    (await last(1)).answer({ throttledMs: 400, partitions: [] });
    expect(await slowed.answer).toEqual([]);
    const again = shared.fetch(ask([from("a", 0)]));
    const other = shared.fetch(ask([from("b", 0)]));
    expect(await isSettled(again.answer)).toBe(false);
    expect(came).toHaveLength(1);
    const second = await last(2);
    second.answer({ partitions: [piece(from("a", 0), "a"), piece(from("b", 0), "b")] });
    expect([textsOf(await again.answer), textsOf(await other.answer)]).toEqual([["a"], ["b"]]);
    expect(came).toHaveLength(2);
  });

  it("are answered with nothing once their time is over, while the node throttles", async () => {
    const { shared, came, last } = scripted();
    const slowed = shared.fetch(ask([from("a", 0)]));
    // It may throttle and answer at once.
    (await last(1)).answer({ throttledMs: 60_000, partitions: [piece(from("a", 0), "a")] });
    expect(textsOf(await slowed.answer)).toEqual(["a"]);
    const begun = performance.now();
    const soon = shared.fetch(ask([from("a", 0)], 0));
    const later = shared.fetch(ask([from("b", 0)], 30_000));
    expect(await soon.answer).toEqual([]);
    // Whoever asks again at once must not spin.
    expect(performance.now() - begun).toBeGreaterThan(900);
    expect(await isSettled(later.answer)).toBe(false);
    expect(came).toHaveLength(1);
    shared.close();
  });

  it("are refused each where all of it is refused", async () => {
    const { shared, last } = scripted();
    const one = shared.fetch(ask([from("a", 0)]));
    (await last(1)).answer({ error: "UNKNOWN", partitions: [] });
    expect((await one.answer).map(({ error }) => error)).toEqual(["UNKNOWN"]);
  });
});
