import { Kafka, logLevel } from "kafkajs";
import { until } from "../until.ts";

/** How long a server may take to start, on a slow machine that does other things as well. */
export const KAFKA_READY_MS = 120_000;

/** Waits until a client can connect and the cluster has a broker that serves. */
export async function awaitKafka(brokers: readonly string[], deadlineMs: number, signal?: AbortSignal): Promise<void> {
  const kafka = new Kafka({
    brokers: [...brokers],
    clientId: "anybroker-tests",
    logLevel: logLevel.NOTHING,
    connectionTimeout: 5_000,
    requestTimeout: 5_000,
    retry: { retries: 0 },
  });
  await until(
    `a connection to Kafka at ${brokers.join(",")}`,
    deadlineMs,
    async () => {
      const admin = kafka.admin();
      try {
        await admin.connect();
        const cluster = await admin.describeCluster();
        if (cluster.brokers.length === 0) throw new Error("no broker has registered");
      } finally {
        await admin.disconnect();
      }
    },
    signal,
  );
}
