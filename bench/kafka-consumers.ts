import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createBroker, queue, topic } from "anybroker";
import { kafka } from "anybroker/kafka";
import { startKafka } from "../test/brokers/kafka.ts";

// npm run build && node bench/kafka-consumers.ts [--subscriptions] [1 10 100 1000]: what consumers that have nothing to do
// cost a process. Each has a queue of its own, or a subscription to a topic of its own, which exist already, as at the
// second start of an application.
const SETTLED_MS = 8_000;
const IDLE_MS = 15_000;
/** So many topics are made at once, so that the server is not busy with them for longer than a request may take. */
const MADE_AT_ONCE = 25;

/** A small server keeps no more than some thousand partitions: beyond so many destinations consumers share them. */
const MOST_DESTINATIONS = 500;

/** What a process with so many consumers takes. */
interface Cost {
  readonly consumers: number;
  readonly startMs: number;
  readonly sockets: number;
  /** Of one core. */
  readonly idlePercent: number;
  readonly rssMiB: number;
  readonly notices: number;
  readonly stopMs: number;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    child: { type: "boolean" },
    brokers: { type: "string" },
    partitions: { type: "string", default: "4" },
    subscriptions: { type: "boolean", default: false },
  },
});
const brokers = values.brokers ?? "";
const open = () => kafka({ brokers, partitions: Number(values.partitions) });
const queueOf = (number: number) => queue<{ n: number }>(`bench.queue.${number % MOST_DESTINATIONS}`);
const topicOf = (number: number) => topic<{ n: number }>(`bench.topic.${number % MOST_DESTINATIONS}`);

if (values.child === true) {
  process.send?.(await measure(Number(positionals[0])));
  process.disconnect?.();
} else {
  const server = await startKafka();
  try {
    const counts = positionals.length === 0 ? [1, 10, 100, 1_000] : positionals.map(Number);
    console.log("consumers  start s  sockets  idle %  RSS MiB  notices  stop s");
    for (const count of counts) {
      const { consumers, startMs, sockets, idlePercent, rssMiB, notices, stopMs } = await inProcess(
        count,
        server.brokers.join(","),
      );
      const row = [
        String(consumers),
        (startMs / 1_000).toFixed(1),
        String(sockets),
        idlePercent.toFixed(1),
        rssMiB.toFixed(0),
        String(notices),
        (stopMs / 1_000).toFixed(1),
      ];
      console.log(row.map((cell, index) => cell.padStart([9, 7, 7, 6, 7, 7, 6][index] ?? 0)).join("  "));
    }
    console.log(`Kafka ${server.version} (${server.how})`);
  } finally {
    await server.stop();
  }
}

/** In a process of its own, so that nothing of one measurement is left in the next. */
async function inProcess(consumers: number, at: string): Promise<Cost> {
  const kind = values.subscriptions ? ["--subscriptions"] : [];
  const given = ["--child", "--brokers", at, "--partitions", values.partitions, ...kind, String(consumers)];
  const child = fork(fileURLToPath(import.meta.url), given);
  const [cost] = await once(child, "message");
  await once(child, "exit");
  return cost as Cost;
}

function consume(broker: ReturnType<typeof createBroker>, number: number): void {
  if (values.subscriptions) broker.subscribe(topicOf(number), "bench", async () => undefined);
  else broker.consume(queueOf(number), async () => undefined);
}

async function measure(consumers: number): Promise<Cost> {
  const destinations = Math.min(consumers, MOST_DESTINATIONS);
  for (let made = 0; made < destinations; made += MADE_AT_ONCE) {
    const maker = createBroker(open());
    for (let number = made; number < Math.min(made + MADE_AT_ONCE, destinations); number++) consume(maker, number);
    await maker.start();
    await maker.stop();
  }
  let notices = 0;
  const broker = createBroker(open(), {
    onEvent: (event) => {
      if (event.type !== "notice" && event.type !== "stalled") return;
      if (notices++ < 5) console.error(event.error.message);
    },
  });
  for (let number = 0; number < consumers; number++) consume(broker, number);
  const begin = performance.now();
  await broker.start();
  const startMs = performance.now() - begin;
  await wait(SETTLED_MS);
  const [from, before] = [performance.now(), process.cpuUsage()];
  await wait(IDLE_MS);
  const { user, system } = process.cpuUsage(before);
  const idlePercent = ((user + system) / 1_000 / (performance.now() - from)) * 100;
  const sockets = process.getActiveResourcesInfo().filter((resource) => resource === "TCPSocketWrap").length;
  const rssMiB = process.memoryUsage().rss / 2 ** 20;
  const stopping = performance.now();
  await broker.stop();
  return { consumers, startMs, sockets, idlePercent, rssMiB, notices, stopMs: performance.now() - stopping };
}
