import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Tests import the package by its public names and get the sources. */
const { exports } = JSON.parse(readFileSync(source("package.json"), "utf8")) as {
  exports: Record<string, string | { default: string }>;
};
const alias = Object.entries(exports).flatMap(([entry, target]) =>
  typeof target === "string"
    ? []
    : {
        find: new RegExp(`^anybroker${entry.slice(1)}$`),
        replacement: source(target.default.replace("./dist/", "./").replace(/\.js$/, ".ts")),
      },
);

/** Tests that stop, kill or freeze a server, or change something of the whole server: one file at a time. */
const faultTests = (...names: readonly string[]) => names.map((name) => `test/**/${name}.faults.test.ts`);
const faults = {
  "faults-rabbitmq": [...faultTests("{rabbitmq,*-rabbitmq}"), "test/adapters/rabbitmq/**/*.faults.test.ts"],
  "faults-kafka": [...faultTests("{kafka,*-kafka}"), "test/adapters/kafka/**/*.faults.test.ts"],
  "faults-sqs": [...faultTests("{sqs-*,*-sqs,fauxqs,elasticmq}"), "test/adapters/sqs/**/*.faults.test.ts"],
  "faults-stores": faultTests("{postgres,valkey,*-postgres,*-redis,*-memory}"),
};
const allFaultTests = "test/**/*.faults.test.ts";
/** Tests that share servers and keep to destinations of their own: side by side. */
const brokerTests = "test/**/*.broker.test.ts";

const shared = {
  // Only what never comes is to fail, however busy the machine is.
  expect: { poll: { timeout: 240_000 } },
  // A lazy desk: it starts a server, or builds the package, when a file asks for it.
  globalSetup: "./test/brokers/global-setup.ts",
  // No module of the library or of the tests keeps state, so files can share a worker.
  isolate: false,
  // Most tests wait more than they work.
  maxConcurrency: 8,
  testTimeout: 600_000,
  hookTimeout: 600_000,
};

export default defineConfig({
  test: {
    reporters: ["default", "./test/tools/count-reporter.ts"],
    projects: [
      {
        resolve: { alias },
        test: {
          ...shared,
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: [brokerTests, allFaultTests],
          // By default a machine of two cores would run one file at a time.
          maxWorkers: 4,
          sequence: { groupOrder: 1 },
        },
      },
      {
        resolve: { alias },
        test: {
          ...shared,
          name: "brokers",
          include: [brokerTests],
          maxWorkers: 4,
          // Two tries where nobody watches; the summary names what took the second one.
          retry: process.env.CI === "true" ? 1 : 0,
          sequence: { groupOrder: 2 },
        },
      },
      ...Object.entries(faults).map(([name, include], index) => ({
        resolve: { alias },
        test: { ...shared, name, include, fileParallelism: false, sequence: { groupOrder: 3 + index } },
      })),
    ],
  },
});
