import { createClient } from "redis";
import { until } from "../until.ts";

/** How long a server may take to start, on a slow machine that does other things as well. */
export const VALKEY_READY_MS = 120_000;

const ANSWER_WITHIN_MS = 5_000;

/** Waits until the server answers and has read its data in; returns its version, with its name if it is a Redis. */
export async function awaitValkey(url: string, deadlineMs: number, signal?: AbortSignal): Promise<string> {
  const { host } = new URL(url);
  return until(
    `an answer of Valkey at ${host}`,
    deadlineMs,
    () =>
      withClient(url, async (client) => {
        await client.ping();
        const about = await client.info("server");
        const valkey = /^valkey_version:(\S+)/m.exec(about)?.[1];
        return valkey ?? `${/^redis_version:(\S+)/m.exec(about)?.[1] ?? "of a release not known"} (Redis)`;
      }),
    signal,
  );
}

/** Asks on a connection of its own, which does not try again by itself. */
export async function withClient<T>(
  url: string,
  asked: (client: ReturnType<typeof clientOf>) => Promise<T>,
): Promise<T> {
  const client = clientOf(url);
  // Every failure is that of a call as well.
  client.on("error", () => undefined);
  try {
    await client.connect();
    return await asked(client);
  } finally {
    if (client.isOpen) client.destroy();
  }
}

function clientOf(url: string) {
  return createClient({
    url,
    disableOfflineQueue: true,
    commandOptions: { timeout: ANSWER_WITHIN_MS },
    socket: { connectTimeout: ANSWER_WITHIN_MS, socketTimeout: ANSWER_WITHIN_MS, reconnectStrategy: false },
  });
}
