import { expect, test } from "vitest";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import { receiveDeadLetters } from "../../../adapters/kafka/dead-letters/receiver.ts";
import { deadLetterRecord } from "../../../adapters/kafka/dead-letters/records.ts";
import { countDeadLetters } from "../../../adapters/kafka/dead-letters/references.ts";
import type { Receiver } from "../../../core/adapter.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { FakeDeadLetters } from "./fake-dead-letters.ts";
import { bodyOf, Inbox } from "./inbox.ts";

const SEEDS = 60;

interface Process {
  readonly receiver: Receiver;
  readonly inbox: Inbox;
  readonly clock: ProcessClock;
}

/**
 * Messages fail, again and again, while receivers come, go, lose their sessions and are killed, sends end unknown, and the
 * topic is compacted. Book is kept of every record and of every removal that was confirmed.
 */
class World {
  readonly time = new VirtualTime();
  readonly broker = new FakeDeadLetters(this.time);
  readonly prng: Prng;
  readonly processes: Process[] = [];
  /** The offsets at which each message came. */
  readonly put = new Map<string, number[]>();
  /** The offset up to which somebody was done with each message, and up to which its removal was confirmed. */
  readonly acknowledged = new Map<string, number>();
  readonly settled = new Map<string, number>();
  readonly cameBack: string[] = [];
  isChaotic = true;

  constructor(seed: string) {
    this.prng = new Prng(seed);
    this.broker.latency = () => this.prng.between(1, 40);
    this.broker.answer = () => {
      if (!this.isChaotic || !this.prng.chance(0.2)) return { status: "confirmed" };
      return this.prng.chance(0.5) ? "stored-but-unknown" : { status: "unknown", cause: new Error("gone") };
    };
  }

  fail(body: string): void {
    const message = { id: body, key: undefined, routingKey: undefined, headers: {}, body: Buffer.from(body) };
    const rest = { contentType: "text/plain", size: 0, priority: 0, delayMs: 0, ttlMs: undefined };
    const { offset } = this.broker.append(deadLetterRecord({ ...message, ...rest }, this.prng));
    this.put.set(body, [...(this.put.get(body) ?? []), offset]);
  }

  async join(): Promise<void> {
    const clock = new ProcessClock(this.time);
    const inbox = new Inbox();
    const deliver = inbox.deliver.bind(inbox);
    const opening = receiveDeadLetters(this.broker.host(clock, this.prng), this.prng.between(1, 6), {
      deliver: (records) => {
        for (const held of records) this.#check(held);
        deliver(records);
      },
      revoke: (records) => inbox.revoke(records),
      lost: (records) => inbox.lost(records),
      stalled: (cause) => inbox.stalled(cause),
      notice: (error) => inbox.notice(error),
    });
    const receiver = await this.run(opening);
    const process: Process = { receiver, inbox, clock };
    inbox.onRecall = (records) => void this.settle(process, [...records], "requeue");
    this.processes.push(process);
  }

  #check(held: DeliveredRecord): void {
    if (held.record.offset <= (this.settled.get(bodyOf(held)) ?? -1)) this.cameBack.push(bodyOf(held));
  }

  async settle(
    { receiver, inbox }: Process,
    tokens: readonly DeliveredRecord[],
    action: "ack" | "requeue",
  ): Promise<void> {
    for (const token of tokens) {
      inbox.drop(token);
      if (action === "ack") raise(this.acknowledged, token);
    }
    const results = await receiver.settle(tokens.map((token) => ({ token, action })));
    for (const [index, token] of tokens.entries()) {
      if (action === "ack" && results[index] === "settled") raise(this.settled, token);
    }
  }

  async act(): Promise<void> {
    const { prng, broker } = this;
    const process = prng.pick(this.processes);
    const token = process.inbox.held[0];
    switch (prng.between(0, 9)) {
      case 0:
      case 1:
        this.fail(`m-${prng.between(0, 12)}`);
        break;
      case 2:
      case 3:
      case 4:
        if (token === undefined) break;
        // What is replayed may fail again at once.
        if (prng.chance(0.3)) this.fail(bodyOf(token));
        void this.settle(process, [token], "ack");
        break;
      case 5:
        if (token !== undefined) void this.settle(process, [token], "requeue");
        break;
      case 6:
        broker.compact(prng.between(0, broker.end));
        break;
      case 7:
        if (prng.chance(0.5)) broker.expire();
        else void broker.handOver();
        break;
      case 8:
        if (this.processes.length < 3) await this.join();
        break;
      default:
        if (this.processes.length === 1) break;
        this.processes.splice(this.processes.indexOf(process), 1);
        void process.receiver.close();
    }
    await this.pass(prng.between(1, 60));
  }

  /** Ends the chaos, and settles all that stands. */
  async finish(): Promise<boolean> {
    this.isChaotic = false;
    const done = async (): Promise<boolean> => {
      for (const process of this.processes) {
        if (process.inbox.held.length > 0) void this.settle(process, [...process.inbox.held], "ack");
      }
      await this.pass(6_000);
      const log = this.broker.openLog(new ProcessClock(this.time));
      return (await this.run(countDeadLetters(log))).size === 0;
    };
    for (let round = 0; round < 50; round++) if (await done()) return true;
    return false;
  }

  async run<Result>(promise: Promise<Result>): Promise<Result> {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    promise.then(end, end);
    await this.time.until(() => isOver, Number.POSITIVE_INFINITY);
    return promise;
  }

  async pass(ms: number): Promise<void> {
    let isOver = false;
    this.time.schedule(() => {
      isOver = true;
    }, ms);
    await this.time.until(() => isOver, Number.POSITIVE_INFINITY);
  }
}

function raise(offsets: Map<string, number>, held: DeliveredRecord): void {
  const body = bodyOf(held);
  offsets.set(body, Math.max(offsets.get(body) ?? -1, held.record.offset));
}

test("every failure is acknowledged by somebody who had it, and what was settled never comes back", async () => {
  let again = 0;
  for (let seed = 0; seed < SEEDS; seed++) {
    const world = new World(`dead-letters-${seed}`);
    await world.join();
    for (let step = 0; step < 120; step++) await world.act();
    expect(await world.finish(), `seed ${seed}: something stands that nobody gets`).toBe(true);
    for (const [body, offsets] of world.put) {
      again += offsets.length - 1;
      const acknowledged = world.acknowledged.get(body) ?? -1;
      expect(acknowledged, `seed ${seed}: ${body} came at ${offsets}`).toBeGreaterThanOrEqual(Math.max(...offsets));
    }
    expect(world.cameBack, `seed ${seed}`).toEqual([]);
  }
  expect(again).toBeGreaterThan(100);
});
