import type { KafkaConnection } from "../../../adapters/kafka/port.ts";
import { createProducer, type KafkaProducer } from "../../../adapters/kafka/producing/idempotent-producer.ts";
import type { ProducerOptions, RecordToSend } from "../../../adapters/kafka/producing/producer.ts";
import type { SendResult } from "../../../core/adapter.ts";
import { MessagingError } from "../../../core/errors.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { FakeCluster } from "./fake-cluster.ts";

/** A producer on a fake cluster, in virtual time. */
export interface Harness {
  readonly time: VirtualTime;
  readonly clock: ProcessClock;
  readonly cluster: FakeCluster;
  readonly producer: KafkaProducer;
  /** What was reported, by value. */
  readonly results: Map<string, SendResult>;
  /** `up` and `down`, in order. */
  readonly signals: string[];
  /** Sends values without a key, unless given, or to a partition. */
  send(topic: string, values: readonly string[], to?: { readonly partition?: number; readonly key?: string }): void;
  /** Lets time pass until all of these have a result; fails if one has none within ten minutes of that time. */
  settled(values: readonly string[]): Promise<void>;
  /** Lets so many milliseconds pass. */
  elapse(ms: number): Promise<void>;
  /** The status of each, in order; with the code of its error if it was rejected. */
  outcomes(values: readonly string[]): (string | undefined)[];
}

const LONG_MS = 600_000;
const MAX_LOOKS = 500;
const LOOK_AGAIN_MS = 10;

/** What a test wants otherwise. */
export interface HarnessOptions extends Partial<Omit<ProducerOptions, "connection">> {
  /** Changes the cluster before the producer opens. */
  readonly prepare?: (cluster: FakeCluster) => void;
  /** Changes what the producer gets of the cluster. */
  readonly connection?: (own: KafkaConnection) => KafkaConnection;
}

/** Opens one. */
export async function openHarness(options: HarnessOptions = {}, seed = "seed"): Promise<Harness> {
  const { prepare, connection, ...producerOptions } = options;
  const time = new VirtualTime();
  const clock = new ProcessClock(time);
  const cluster = new FakeCluster(time);
  prepare?.(cluster);
  const signals: string[] = [];
  const producer = createProducer({
    connection: connection?.(cluster.connection()) ?? cluster.connection(),
    signals: {
      up: () => signals.push("up"),
      down: () => signals.push("down"),
      notice: ({ message }) => signals.push(message),
    },
    clock,
    random: new Prng(seed),
    ...producerOptions,
  });
  const opened = producer.open();
  let isOpen = false;
  opened.then(
    () => {
      isOpen = true;
    },
    () => {
      isOpen = true;
    },
  );
  await time.until(() => isOpen, LONG_MS);
  await opened;
  const results = new Map<string, SendResult>();
  return {
    time,
    clock,
    cluster,
    producer,
    results,
    signals,
    send(topic, values, to = {}) {
      const records = values.map((value): RecordToSend => {
        const key = to.key === undefined ? undefined : Buffer.from(to.key);
        const record = { key, value: Buffer.from(value), headers: [] };
        return to.partition === undefined ? record : { ...record, partition: to.partition };
      });
      producer.send(topic, records, (index, result) => {
        const value = values[index] as string;
        if (results.has(value)) throw new Error(`a second result for ${value}`);
        results.set(value, result);
      });
    },
    async settled(values) {
      const isSettled = () => values.every((value) => results.has(value));
      for (let looks = 0; looks < MAX_LOOKS; looks++) {
        if (await time.until(isSettled, time.now + LONG_MS)) return;
        // What compresses takes time of this machine.
        await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
      }
      throw new Error(`no result for ${values.filter((value) => !results.has(value)).join(", ")}`);
    },
    async elapse(ms) {
      let isOver = false;
      time.schedule(() => {
        isOver = true;
      }, ms);
      await time.until(() => isOver, time.now + ms);
    },
    outcomes: (values) =>
      values.map((value) => {
        const result = results.get(value);
        if (result?.status !== "rejected") return result?.status;
        return result.error instanceof MessagingError ? `rejected ${result.error.code}` : "rejected by what?";
      }),
  };
}

/** Values that are all different. */
export function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`);
}
