import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import { receiveDeadLetters } from "../../../adapters/kafka/dead-letters/receiver.ts";
import { deadLetterRecord } from "../../../adapters/kafka/dead-letters/records.ts";
import { countDeadLetters } from "../../../adapters/kafka/dead-letters/references.ts";
import type { LogRecord } from "../../../adapters/kafka/records/contract.ts";
import type { Receiver } from "../../../core/adapter.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { FakeDeadLetters } from "./fake-dead-letters.ts";
import { bodyOf, Inbox } from "./inbox.ts";

const FOREVER = Number.POSITIVE_INFINITY;

/** A topic of dead letters in virtual time, and receivers of it. */
export function world(seed = "dead letters") {
  const time = new VirtualTime();
  const prng = new Prng(seed);
  const broker = new FakeDeadLetters(time);

  function put(id: string, body = id): LogRecord {
    const message = {
      id,
      key: "k",
      routingKey: undefined,
      headers: {},
      body: Buffer.from(body),
      contentType: "text/plain",
    };
    return broker.append(deadLetterRecord({ ...message, size: 0, priority: 0, delayMs: 0, ttlMs: undefined }, prng));
  }

  async function receive(prefetch = 100, clock = new ProcessClock(time)) {
    const inbox = new Inbox();
    const opening = receiveDeadLetters(broker.host(clock, prng), prefetch, inbox);
    return { receiver: await run(opening), inbox, clock };
  }

  /** Lets time go by until a promise is settled. */
  async function run<Result>(promise: Promise<Result>): Promise<Result> {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    promise.then(end, end);
    await time.until(() => isOver, FOREVER);
    return promise;
  }

  async function settle(receiver: Receiver, tokens: readonly DeliveredRecord[], action: "ack" | "requeue" = "ack") {
    return run(receiver.settle(tokens.map((token) => ({ token, action }))));
  }

  async function pass(ms: number): Promise<void> {
    let isOver = false;
    time.schedule(() => {
      isOver = true;
    }, ms);
    await time.until(() => isOver, FOREVER);
  }

  const count = async () => (await run(countDeadLetters(broker.openLog(new ProcessClock(time))))).size;
  const until = (condition: () => boolean) => time.until(condition, time.now + 1_000_000);
  return { time, prng, broker, put, receive, run, settle, pass, count, until };
}

export const bodies = (records: readonly DeliveredRecord[]): string[] => records.map(bodyOf);
