import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { type Delivery, retry as retryLater } from "../../core/delivery.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext } from "../context.ts";
import { watch } from "../decorators/watch.ts";
import { allEffected, drained, judge, judgeClean } from "../judge.ts";
import { callers, mustSucceed, send } from "../publishing.ts";
import { supports } from "../refusals.ts";

interface Step {
  readonly key: string;
  readonly n: number;
}

/** Checks that the messages of each key are handled one after another, in sending order. */
class OrderCheck {
  readonly #done = new Map<string, number>();
  readonly #running = new Set<string>();
  readonly violations: string[] = [];

  begin({ key, n }: Step): void {
    const expected = this.#done.get(key) ?? 0;
    if (n !== expected) this.violations.push(`${key}: ${n} began, ${expected} was expected`);
    if (this.#running.has(key)) this.violations.push(`${key}: ${n} began while another was running`);
    this.#running.add(key);
  }

  /** An attempt ended. `done`: the message was handled. */
  end({ key, n }: Step, done: boolean): void {
    this.#running.delete(key);
    if (done) this.#done.set(key, n + 1);
  }

  finished(key: string): number {
    return this.#done.get(key) ?? 0;
  }
}

async function perKeyOrder(context: CaseContext): Promise<void> {
  if (!(await supports(context, "order"))) return;
  const steps = context.queue<Step>("steps", { ordered: true, key: ({ key }) => key });
  const check = new OrderCheck();
  const handler = async (step: Step): Promise<void> => {
    check.begin(step);
    if (context.random() < 0.3) await sleep(context.random() * 5);
    check.end(step, true);
  };
  const options = { concurrency: 8, prefetch: { messages: 40 } };
  for (let consumer = 0; consumer < 3; consumer++) {
    await context.started({}, (one) => one.consume(steps, handler, options));
  }
  const broker = await context.started({ destinations: [steps] });
  // Each key has one caller, which sends the next message before the confirm of the last one.
  await callers(10, 10, async (index) => {
    const sends = Array.from({ length: 30 }, (_, n) => send(context, broker, steps, { key: `k${index}`, n }));
    for (const refusal of await Promise.all(sends)) mustSucceed(refusal);
  });
  await judgeClean(context, broker, steps);
  assert.deepEqual(check.violations, []);
}

async function orderUnderRetry(context: CaseContext): Promise<void> {
  if (!(await supports(context, "order"))) return;
  const steps = context.queue<Step>("steps", { ordered: true, key: ({ key }) => key });
  const check = new OrderCheck();
  const failures: number[] = [];
  const handler = (step: Step, delivery: Delivery): void => {
    check.begin(step);
    // The first fails until all other keys are finished, each later one fails once.
    const waits = step.key === "failing" && (step.n === 0 ? !othersDone() : delivery.attempt === 1);
    check.end(step, !waits);
    if (!waits) return;
    failures.push(step.n);
    throw new Error("not yet");
  };
  const keys = ["a", "b", "c", "d"];
  const othersDone = (): boolean => keys.every((key) => check.finished(key) === 10);
  const retry = { attempts: 100_000, delay: { firstMs: 20, factor: 1 } };
  const broker = await context.started({}, (one) => one.consume(steps, handler, { concurrency: 4, retry }));
  const publishKey = async (key: string, count: number): Promise<void> => {
    const sends = Array.from({ length: count }, (_, n) => send(context, broker, steps, { key, n }));
    for (const refusal of await Promise.all(sends)) mustSucceed(refusal);
  };
  await publishKey("failing", 5);
  await context.until("the first failure", () => failures.length > 0);
  await Promise.all(keys.map((key) => publishKey(key, 10)));
  await judgeClean(context, broker, steps);
  assert.deepEqual(check.violations, []);
  assert.deepEqual([...new Set(failures)], [0, 1, 2, 3, 4], "a later message failed before an earlier one");
}

/** The delay between two attempts is longer than the broker lets a consumer hold a delivery without renewing it. */
async function longBlockingRetry(context: CaseContext): Promise<void> {
  if (!(await supports(context, "order"))) return;
  const steps = context.queue<Step>("steps", { ordered: true, key: ({ key }) => key });
  const { holding, sessionMs = 0 } = context.harness;
  const watched = watch(holding?.adapter() ?? context.leasing());
  const traffic = watched.traffic(steps.name);
  const delayMs = (): number =>
    Math.ceil(1.5 * Math.max(holding?.longestMs ?? 0, sessionMs, traffic.leaseMs ?? 0, 400));
  const check = new OrderCheck();
  const attempts: number[] = [];
  let dueAt = 0;
  let earlyMs = 0;
  const handler = (step: Step, { attempt }: Delivery): ReturnType<typeof retryLater> | undefined => {
    check.begin(step);
    const fails = step.key === "waiting" && step.n === 0;
    if (fails) attempts.push(attempt);
    check.end(step, !fails || attempts.length > 1);
    if (!fails) return;
    earlyMs = dueAt - performance.now();
    if (attempts.length > 1) return;
    dueAt = performance.now() + delayMs();
    return retryLater({ afterMs: delayMs() });
  };
  const broker = await context.started({}, (one) => one.consume(steps, handler, { concurrency: 4 }), watched.adapter);
  const sendKey = async (key: string, count: number): Promise<void> => {
    const sends = Array.from({ length: count }, (_, n) => send(context, broker, steps, { key, n }));
    for (const refusal of await Promise.all(sends)) mustSucceed(refusal);
  };
  await sendKey("waiting", 5);
  await context.until("the first attempt", () => attempts.length > 0);
  await sendKey("other", 10);
  await context.until("the other key to be handled", () => check.finished("other") === 10);
  assert.equal(check.finished("waiting"), 0, "a later message of the key did not wait");
  await context.until(
    "the waiting key to be handled",
    () => check.finished("waiting") === 5,
    delayMs() + context.patienceMs,
  );
  assert.deepEqual(attempts, [1, 2], "the attempts of the message that waited");
  assert.ok(earlyMs <= 0, `it came ${earlyMs.toFixed(1)} ms before it was due`);
  await judgeClean(context, broker, steps);
  assert.deepEqual(check.violations, []);
}

async function hotKey(context: CaseContext): Promise<void> {
  if (!(await supports(context, "order"))) return;
  const steps = context.queue<Step>("steps", { ordered: true, key: ({ key }) => key });
  const check = new OrderCheck();
  const gate = Promise.withResolvers<void>();
  const handler = async (step: Step): Promise<void> => {
    check.begin(step);
    if (step.key === "hot") await gate.promise;
    check.end(step, true);
  };
  const options = { concurrency: 4, prefetch: { messages: 200 } };
  const broker = await context.started({}, (one) => one.consume(steps, handler, options));
  const sendKey = async (key: string, count: number): Promise<void> => {
    const sends = Array.from({ length: count }, (_, n) => send(context, broker, steps, { key, n }));
    for (const refusal of await Promise.all(sends)) mustSucceed(refusal);
  };
  await sendKey("hot", 50);
  await context.until("the hot key to be held", () => context.ledger.starts(steps.name) === 1);
  const others = Array.from({ length: 20 }, (_, index) => `k${index}`);
  await Promise.all(others.map((key) => sendKey(key, 5)));
  await context.until("the other keys to be handled", () => others.every((key) => check.finished(key) === 5));
  assert.equal(check.finished("hot"), 0);
  gate.resolve();
  await judgeClean(context, broker, steps);
  assert.deepEqual(check.violations, []);
}

/** What a consumer leaves behind, at a stop or with a lost connection, comes again before what was behind it. */
async function orderOverStops(context: CaseContext): Promise<void> {
  if (!(await supports(context, "order"))) return;
  const steps = context.queue<Step>("steps", { ordered: true, key: ({ key }) => key });
  const broker = await context.started({ destinations: [steps] });
  const sent = callers(KEYS, KEYS, async (index) => {
    const sends = Array.from({ length: STEPS }, (_, n) => send(context, broker, steps, { key: `k${index}`, n }));
    for (const refusal of await Promise.all(sends)) mustSucceed(refusal);
  });
  const done = new Map<string, Set<number>>();
  const violations: string[] = [];
  const handled = (): number => [...done.values()].reduce((sum, { size }) => sum + size, 0);
  const handler = async ({ key, n }: Step): Promise<void> => {
    await sleep(context.random() * 5);
    const before = done.get(key) ?? new Set();
    // After a lost connection the same again is a duplicate, and no violation.
    if (!before.has(n) && n !== before.size) violations.push(`${key}: ${n} was handled where ${before.size} was due`);
    done.set(key, before.add(n));
  };
  // Each lost connection counts as a failed delivery, and none of these is to be quarantined.
  const options = { concurrency: CONCURRENCY, prefetch: { messages: 20 }, retry: { attempts: 100 } };
  const take = async (): Promise<Taker> => {
    const adapter = context.leasing();
    const taker = await context.started({}, (one) => one.consume(steps, handler, options), adapter);
    return { stop: () => taker.stop(), loseConnection: () => adapter.close() };
  };
  let taker = await take();
  for (let round = 1; round <= ROUNDS; round++) {
    // It waits for the end of the one before.
    const next = await take();
    const wanted = handled() + (KEYS * STEPS - handled()) / (ROUNDS - round + 2);
    await context.until("some more to be handled", () => handled() >= wanted);
    await (round % 3 === 0 ? taker.loseConnection() : taker.stop());
    taker = next;
  }
  await sent;
  await allEffected(context);
  await drained(context, broker, steps);
  assert.deepEqual(violations, []);
  judge(context, { duplicates: ROUNDS * CONCURRENCY * 2 });
}

interface Taker {
  stop(): Promise<void>;
  loseConnection(): Promise<void>;
}

const KEYS = 6;
const STEPS = 60;
const ROUNDS = 6;
const CONCURRENCY = 4;

export const order: readonly ConformanceCase[] = [
  { number: "16", title: "order per key with several consumers and mixed handler times", run: perKeyOrder },
  { number: "17a", title: "a blocking retry blocks its key only", run: orderUnderRetry },
  { number: "17b", title: "a blocking retry longer than the broker's limit for a delivery", run: longBlockingRetry },
  { number: "17c", title: "order over stops and lost connections", run: orderOverStops },
  { number: "18", title: "a hot key does not stall other keys", run: hotKey },
];
