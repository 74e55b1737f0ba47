import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));

// Tests import the package by its public names and get the sources.
const alias = [
  { find: /^anybroker$/, replacement: source("core/index.ts") },
  { find: /^anybroker\/memory$/, replacement: source("adapters/memory/index.ts") },
  { find: /^anybroker\/rabbitmq$/, replacement: source("adapters/rabbitmq/index.ts") },
  { find: /^anybroker\/kafka$/, replacement: source("adapters/kafka/index.ts") },
  { find: /^anybroker\/sqs$/, replacement: source("adapters/sqs/index.ts") },
  { find: /^anybroker\/dead-letters$/, replacement: source("patterns/dead-letters/index.ts") },
  { find: /^anybroker\/idempotency$/, replacement: source("patterns/idempotency/index.ts") },
  { find: /^anybroker\/idempotency\/postgres$/, replacement: source("patterns/idempotency/postgres/index.ts") },
  { find: /^anybroker\/idempotency\/redis$/, replacement: source("patterns/idempotency/redis/index.ts") },
  { find: /^anybroker\/idempotency\/sqlite$/, replacement: source("patterns/idempotency/sqlite/index.ts") },
  { find: /^anybroker\/idempotency\/conformance$/, replacement: source("test/conformance/idempotency/index.ts") },
  { find: /^anybroker\/migration$/, replacement: source("patterns/migration/index.ts") },
  { find: /^anybroker\/migration\/file$/, replacement: source("patterns/migration/file/index.ts") },
  { find: /^anybroker\/migration\/postgres$/, replacement: source("patterns/migration/postgres/index.ts") },
  { find: /^anybroker\/migration\/sqlite$/, replacement: source("patterns/migration/sqlite/index.ts") },
  { find: /^anybroker\/outbox$/, replacement: source("patterns/outbox/index.ts") },
  { find: /^anybroker\/outbox\/postgres$/, replacement: source("patterns/outbox/postgres/index.ts") },
  { find: /^anybroker\/outbox\/sqlite$/, replacement: source("patterns/outbox/sqlite/index.ts") },
  { find: /^anybroker\/outbox\/conformance$/, replacement: source("test/conformance/outbox/index.ts") },
  { find: /^anybroker\/backpressure$/, replacement: source("patterns/backpressure/index.ts") },
  { find: /^anybroker\/inversify$/, replacement: source("integrations/inversify/index.ts") },
  { find: /^anybroker\/url$/, replacement: source("integrations/url/index.ts") },
  { find: /^anybroker\/testing$/, replacement: source("integrations/testing/index.ts") },
  { find: /^anybroker\/asyncapi$/, replacement: source("integrations/asyncapi/index.ts") },
  { find: /^anybroker\/cli$/, replacement: source("cli/index.ts") },
  { find: /^anybroker\/conformance$/, replacement: source("test/conformance/index.ts") },
];

// Whatever needs a real broker: the brokers themselves, the adapters of real brokers, and any test that says so by name.
const brokerTests = [
  "test/brokers/**/*.test.ts",
  "test/adapters/{rabbitmq,kafka,sqs}{,.*,-*,/**/*}.test.ts",
  "test/**/*.broker.test.ts",
];
// Those of Kafka and of SQS are most of them by time, and can run beside the others.
const testsOf = (broker: string, ...more: readonly string[]) => [
  ...more,
  `test/adapters/${broker}{,.*,-*,/**/*}.test.ts`,
  `test/**/{${broker},*-${broker}}.broker.test.ts`,
];
const kafkaTests = testsOf("kafka", "test/brokers/kafka.test.ts");
const sqsTests = testsOf("sqs", "test/brokers/{elasticmq,fauxqs}.test.ts");

// Only what never comes is to fail, however busy the machine is.
const patient = { poll: { timeout: 20_000 } };

const onBrokers = {
  expect: patient,
  globalSetup: "./test/brokers/global-setup.ts",
  // One file at a time: fault cases stop the broker that all share.
  fileParallelism: false,
  testTimeout: 300_000,
  hookTimeout: 180_000,
};

export default defineConfig({
  test: {
    reporters: ["default", "./test/tools/count-reporter.ts"],
    projects: [
      {
        resolve: { alias },
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: brokerTests,
          expect: patient,
          testTimeout: 60_000,
          // They wait more than they work. By default a machine of two cores would run one file at a time.
          maxWorkers: 4,
          // Some build the package first.
          hookTimeout: 120_000,
        },
      },
      {
        resolve: { alias },
        test: {
          ...onBrokers,
          name: "brokers",
          include: brokerTests,
          exclude: [...kafkaTests, ...sqsTests],
        },
      },
      {
        resolve: { alias },
        test: {
          ...onBrokers,
          name: "kafka",
          include: kafkaTests,
        },
      },
      {
        resolve: { alias },
        test: {
          ...onBrokers,
          name: "sqs",
          include: sqsTests,
        },
      },
    ],
  },
});
