import { connect } from "amqplib";
import { until } from "../until.ts";

/** How long a server may take to start, on a slow machine that does other things as well. */
export const RABBITMQ_READY_MS = 120_000;

/** Waits until a client can connect and log in; returns the server's version. */
export async function awaitRabbitMQ(url: string, deadlineMs: number, signal?: AbortSignal): Promise<string> {
  const { host } = new URL(url);
  return until(
    `a connection to RabbitMQ at ${host}`,
    deadlineMs,
    async () => {
      const connection = await connect(url, { timeout: 5_000 });
      const { version } = connection.connection.serverProperties;
      await connection.close();
      return version;
    },
    signal,
  );
}
