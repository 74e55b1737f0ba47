import { request as requestPlain } from "node:http";
import { request as requestEncrypted } from "node:https";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { within } from "./deadline.ts";
import { OWN_PREFIX } from "./names.ts";
import type { Settings } from "./options.ts";
import { currentPassword } from "./password.ts";
import type { Policy, PolicyLists } from "./policies.ts";

type ManagementSettings = Pick<Settings, "username" | "password" | "tls" | "vhost" | "requestTimeoutMs" | "words">;

/** The most bytes of an answer: room for tens of thousands of queues. */
const MOST_BYTES = 64 * 1024 * 1024;

/** The policies of the virtual host. Rejects with `unauthorized`, `not-found`, `unreachable` or `timeout`. */
export async function readPolicies(managementUrl: string, settings: ManagementSettings): Promise<PolicyLists> {
  const [policies = [], operatorPolicies = []] = await readLists(managementUrl, settings, "policies", [
    ["policies"],
    ["operator-policies"],
  ]);
  return { policies: policies.filter(isPolicy), operatorPolicies: operatorPolicies.filter(isPolicy) };
}

/**
 * The queues of the virtual host, with how many messages consumers hold of each, as it was some seconds ago. Rejects as
 * {@link readPolicies}, and with `unsupported` where no management API was given.
 */
export async function readQueues(
  settings: ManagementSettings & Pick<Settings, "managementUrl">,
): Promise<ReadonlyMap<string, number>> {
  const { managementUrl } = settings;
  if (managementUrl === undefined) {
    const next = "give managementUrl, as in ?managementUrl=https://host:15671, or name the queues";
    throw new MessagingError("unsupported", `RabbitMQ lists no queues by AMQP; ${next}`);
  }
  const columns = "?columns=name,messages_unacknowledged";
  const [queues = []] = await readLists(managementUrl, settings, "queues", [["queues", columns]]);
  const held = new Map<string, number>();
  for (const queue of queues) {
    const { name, messages_unacknowledged: count } = (queue ?? {}) as Readonly<Record<string, unknown>>;
    if (typeof name === "string") held.set(name, typeof count === "number" ? count : 0);
  }
  return held;
}

/** A queue or an exchange as it stands. */
export interface Standing {
  readonly name: string;
  /** Of an exchange, or of a queue from 3.8 on. */
  readonly type: string;
  readonly durable: boolean;
  readonly auto_delete: boolean;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** A binding as it stands. */
export interface StandingBinding {
  readonly source: string;
  readonly destination: string;
  readonly destination_type: string;
  readonly routing_key: string;
}

/** Everything that stands in a virtual host. */
export interface StandingTopology {
  readonly queues: readonly Standing[];
  readonly exchanges: readonly Standing[];
  readonly bindings: readonly StandingBinding[];
}

/** What stands in the virtual host, with its properties. Rejects with `unauthorized`, `not-found`, `unreachable` or `timeout`. */
export async function readTopology(managementUrl: string, settings: ManagementSettings): Promise<StandingTopology> {
  const [queues = [], exchanges = [], bindings = []] = await readLists(managementUrl, settings, "queues and bindings", [
    // Statistics are read from a cache, and are most of the answer.
    ["queues", "?disable_stats=true&columns=name,type,durable,auto_delete,arguments"],
    ["exchanges", "?columns=name,type,durable,auto_delete,arguments"],
    ["bindings", "?columns=source,destination,destination_type,routing_key"],
  ]);
  return {
    queues: queues.filter(isStanding),
    exchanges: exchanges.filter(isStanding),
    bindings: bindings.filter(isBinding),
  };
}

/**
 * How many messages the server has taken off the wait queues and not put where they go next. Rejects with `unauthorized`,
 * `not-found`, `unreachable` or `timeout`.
 */
export async function readUnderWay(managementUrl: string, settings: ManagementSettings): Promise<number> {
  const pattern = encodeURIComponent(`^${OWN_PREFIX.replaceAll(".", "\\.")}`);
  const [queues = []] = await readLists(managementUrl, settings, "queues", [
    ["queues", `?page=1&page_size=100&use_regex=true&name=${pattern}&columns=name,messages_dlx`],
  ]);
  return queues.reduce<number>((sum, queue) => {
    const { messages_dlx: count } = (queue ?? {}) as { readonly messages_dlx?: unknown };
    return sum + (typeof count === "number" ? count : 0);
  }, 0);
}

async function readLists(
  managementUrl: string,
  settings: ManagementSettings,
  what: string,
  lists: readonly (readonly [kind: string, query?: string])[],
): Promise<readonly (readonly unknown[])[]> {
  const read = async ([kind, query = ""]: readonly [kind: string, query?: string]): Promise<readonly unknown[]> => {
    const found = await ask(`${managementUrl}/api/${kind}/${encodeURIComponent(settings.vhost)}${query}`, settings);
    const list = Array.isArray(found) ? found : (found as { readonly items?: unknown } | null)?.items;
    return Array.isArray(list) ? list : [];
  };
  const place = `RabbitMQ's management API at ${managementUrl}`;
  try {
    return await within(
      settings.requestTimeoutMs,
      `show its ${what} at ${managementUrl}`,
      Promise.all(lists.map(read)),
    );
  } catch (error) {
    if (isMessagingError(error)) throw error;
    const status = error instanceof Refusal ? error.status : undefined;
    if (status === 401 || status === 403) {
      const next = "the user has to have a tag such as management, and permissions in the virtual host";
      throw new MessagingError("unauthorized", `${place} refuses to show ${what} (${status}); ${next}`);
    }
    if (status !== undefined) {
      throw new MessagingError("not-found", `${place} answers ${status}; see that managementUrl leads to it`);
    }
    const next = "see that managementUrl leads to it, and that its plugin is enabled";
    throw new MessagingError("unreachable", `${place} cannot be asked for ${what}; ${next}`, {
      cause: settings.words.error(error),
    });
  }
}

function isPolicy(value: unknown): value is Policy {
  const { name, pattern, definition } = (value ?? {}) as Partial<Record<keyof Policy, unknown>>;
  return (
    typeof name === "string" && typeof pattern === "string" && typeof definition === "object" && definition !== null
  );
}

function isStanding(value: unknown): value is Standing {
  const { name, arguments: given } = (value ?? {}) as Partial<Record<keyof Standing, unknown>>;
  return typeof name === "string" && typeof given === "object" && given !== null;
}

function isBinding(value: unknown): value is StandingBinding {
  const { source, destination } = (value ?? {}) as Partial<Record<keyof StandingBinding, unknown>>;
  return typeof source === "string" && typeof destination === "string";
}

class Refusal extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`HTTP status ${status}`);
    this.status = status;
  }
}

/** By Node's own client, which takes the certificates of the connection. */
async function ask(url: string, settings: ManagementSettings): Promise<unknown> {
  const { username, tls, requestTimeoutMs } = settings;
  const { value: password } = await currentPassword(settings, requestTimeoutMs);
  return new Promise((resolve, reject) => {
    const isEncrypted = url.startsWith("https:");
    const options = {
      ...(isEncrypted ? tls : undefined),
      auth: `${username}:${password}`,
      headers: { accept: "application/json" },
      agent: false as const,
      signal: AbortSignal.timeout(requestTimeoutMs),
    };
    const asked = (isEncrypted ? requestEncrypted : requestPlain)(url, options, (response) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on("data", (part: Buffer) => {
        parts.push(part);
        bytes += part.length;
        if (bytes > MOST_BYTES) response.destroy(new Error(`the answer has over ${MOST_BYTES} bytes`));
      });
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode !== 200) {
          reject(new Refusal(response.statusCode ?? 0));
          return;
        }
        try {
          resolve(JSON.parse(Buffer.concat(parts).toString("utf8")));
        } catch {
          reject(new Error("the answer is no JSON"));
        }
      });
    });
    asked.on("error", reject);
    asked.end();
  });
}
