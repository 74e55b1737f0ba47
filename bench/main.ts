import { parseArgs } from "node:util";
import { kafka } from "anybroker/kafka";
import { memory } from "anybroker/memory";
import { rabbitmq } from "anybroker/rabbitmq";
import { startElasticMQ } from "../test/brokers/elasticmq.ts";
import { startFauxqs } from "../test/brokers/fauxqs.ts";
import { startKafka } from "../test/brokers/kafka.ts";
import { startRabbitMQ } from "../test/brokers/rabbitmq.ts";
import { deadLettersAt, printDeadLetters } from "./dead-letters.ts";
import { flatMemory } from "./flat-memory.ts";
import { idempotency } from "./idempotency.ts";
import { inProcess } from "./in-process.ts";
import { besideKafkajs } from "./kafka.ts";
import { type Comparison, compare, type Result, report } from "./measure.ts";
import { type Place, printBridges } from "./migration.ts";
import { outbox } from "./outbox.ts";
import { besideAmqplib } from "./rabbitmq.ts";
import { besideAwsSdk } from "./sqs.ts";

// npm run bench [-- memory in-process idempotency dead-letters migration rabbitmq kafka sqs outbox]: everything, or only what is named. Ratios, measured in one run.
const { positionals } = parseArgs({ allowPositionals: true });
const wanted = (part: string): boolean => positionals.length === 0 || positionals.includes(part);
const results: Result[] = [];

async function runAll(comparisons: readonly Comparison[]): Promise<void> {
  for (const comparison of comparisons) {
    console.error(`… ${comparison.title}`);
    results.push(await compare(comparison));
  }
}

if (wanted("in-process")) await runAll(inProcess());
if (wanted("idempotency")) await idempotency(runAll);
if (wanted("outbox")) await outbox(runAll);
if (wanted("rabbitmq")) {
  const broker = await startRabbitMQ();
  try {
    await runAll(besideAmqplib(broker.url));
    console.log(`RabbitMQ ${broker.version} (${broker.how})`);
  } finally {
    await broker.stop();
  }
}
if (wanted("kafka")) {
  const broker = await startKafka();
  try {
    await runAll(await besideKafkajs(broker.brokers.join(",")));
    console.log(`Kafka ${broker.version} (${broker.how})`);
  } finally {
    await broker.stop();
  }
}
if (wanted("sqs")) {
  // A disk would hide what batches save. ElasticMQ on request: it is the slower one.
  const start = process.env.BENCH_SQS === "elasticmq" ? startElasticMQ : startFauxqs;
  const broker = await start(process.env, { durable: false });
  try {
    await runAll(besideAwsSdk({ endpoint: broker.url, region: broker.region, credentials: broker.credentials }));
    console.log(`${broker.name} ${broker.version} (${broker.how})`);
  } finally {
    await broker.stop();
  }
}
if (wanted("dead-letters")) {
  console.log(printDeadLetters("memory", await deadLettersAt(memory(), "bench.dead-letters")));
  for (const start of [startRabbitMQ, startKafka]) {
    const broker = await start();
    try {
      const adapter = "brokers" in broker ? kafka({ brokers: broker.brokers }) : rabbitmq({ url: broker.url });
      const reports = await deadLettersAt(adapter, `bench.dead-letters.${process.pid}`);
      console.log(printDeadLetters(`${broker.name} ${broker.version} (${broker.how})`, reports));
    } finally {
      await broker.stop();
    }
  }
}
if (wanted("migration")) {
  const rabbit = await startRabbitMQ();
  const log = await startKafka();
  try {
    const places: Record<"memory" | "RabbitMQ" | "Kafka", Place> = {
      memory: { name: "memory", open: () => memory() },
      RabbitMQ: { name: `RabbitMQ ${rabbit.version} (${rabbit.how})`, open: () => rabbitmq({ url: rabbit.url }) },
      Kafka: { name: `Kafka ${log.version} (${log.how})`, open: () => kafka({ brokers: log.brokers }) },
    };
    const { memory: here, RabbitMQ, Kafka } = places;
    const ways = [
      [here, RabbitMQ],
      [RabbitMQ, here],
      [RabbitMQ, Kafka],
      [Kafka, RabbitMQ],
    ] as const;
    console.log(await printBridges(ways));
  } finally {
    await Promise.all([rabbit.stop(), log.stop()]);
  }
}
if (results.length > 0) console.log(report(results));
if (wanted("memory")) {
  const heaps = await flatMemory();
  console.log(`heap in MiB after each 100,000 messages: ${heaps.map((heap) => heap.toFixed(1)).join(" ")}`);
}
