import { randomUUID } from "node:crypto";
import { until } from "../until.ts";
import type { RabbitMQByUrl, RabbitMQInDocker, RabbitMQNative } from "./record.ts";

/** A place on the broker that one suite has for itself. */
export interface VirtualHost {
  readonly url: string;
  /**
   * What the names of queues and topics should begin with. Empty in a virtual host of one's own; unique where all suites
   * share the one that was given by URL.
   */
  readonly namePrefix: string;
  /** Removes the virtual host and all that is in it. Where suites share one, does nothing. */
  remove(): Promise<void>;
}

/** Makes a virtual host through the management API. */
export async function makeVirtualHost(record: RabbitMQInDocker | RabbitMQNative): Promise<VirtualHost> {
  const name = `test-${randomUUID()}`;
  const ask = managementApi(record.managementUrl);
  await until("a new virtual host", 60_000, async () => {
    await ask("PUT", `/api/vhosts/${name}`, {});
    await ask("PUT", `/api/permissions/${name}/guest`, { configure: ".*", write: ".*", read: ".*" });
  });
  return {
    url: `${record.url}/${name}`,
    namePrefix: "",
    remove: () => until("the end of a virtual host", 60_000, () => ask("DELETE", `/api/vhosts/${name}`)),
  };
}

/** For a broker that is not ours: names that no other suite has. */
export async function namePrefixOnly(record: RabbitMQByUrl): Promise<VirtualHost> {
  return { url: record.url, namePrefix: `test-${randomUUID()}.`, remove: async () => undefined };
}

function managementApi(url: string) {
  const { username, password, origin } = new URL(url);
  const authorization = `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
  return async (method: "PUT" | "DELETE", path: string, body?: unknown): Promise<void> => {
    const response = await fetch(`${origin}${path}`, {
      method,
      headers: { authorization, "content-type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    await response.arrayBuffer();
    if (!response.ok && !(method === "DELETE" && response.status === 404)) {
      throw new Error(`${method} ${path}: ${response.status}`);
    }
  };
}
