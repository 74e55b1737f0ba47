import { request as requestPlain } from "node:http";
import { request as requestEncrypted } from "node:https";
import { jsonCodec } from "../../core/codec.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { currentPassword, within } from "./connection.ts";
import { OWN_PREFIX } from "./names.ts";
import type { Settings } from "./options.ts";
import type { AppliedPolicies, Policy, PolicyLists } from "./policies.ts";

type ManagementSettings = Pick<Settings, "username" | "password" | "tls" | "vhost" | "requestTimeoutMs" | "redactor">;

/** The most bytes and values of an answer: enough for tens of thousands of queues, and safe for a small heap. */
const MAX_BYTES = 32 * 1024 * 1024;
const MAX_VALUES = 1_000_000;
const ANSWERS = jsonCodec({ maxValues: MAX_VALUES });

/** Reads the policies of the virtual host. Rejects with `unauthorized`, `not-found`, `unreachable` or `timeout`. */
export async function readPolicies(managementUrl: string, settings: ManagementSettings): Promise<PolicyLists> {
  const [policies = [], operatorPolicies = []] = await readLists(managementUrl, settings, "policies", isPolicy, [
    ["policies"],
    ["operator-policies"],
  ]);
  return { policies, operatorPolicies };
}

/** Reads which policies RabbitMQ applies in the virtual host. Rejects as {@link readPolicies}. */
export async function readAppliedPolicies(
  managementUrl: string,
  settings: ManagementSettings,
): Promise<AppliedPolicies> {
  const [queues = [], exchanges = []] = await readLists(managementUrl, settings, "queues and exchanges", isNamed, [
    // With statistics, a new queue is listed without its policies.
    ["queues", "?disable_stats=true&columns=name,policy,operator_policy,effective_policy_definition"],
    ["exchanges", "?columns=name,policy"],
  ]);
  const textOf = (value: unknown): string | undefined =>
    typeof value === "string" && value !== "" ? value : undefined;
  const applied = (one: Named) =>
    [one.name, { policy: textOf(one.policy), operatorPolicy: textOf(one.operator_policy) }] as const;
  return {
    queues: new Map(queues.filter((one) => "policy" in one || "effective_policy_definition" in one).map(applied)),
    exchanges: new Map(exchanges.map(applied)),
  };
}

/**
 * Reads the queues of the virtual host, with their numbers of unacknowledged messages, which are some seconds old.
 * Rejects as {@link readPolicies}, and with `unsupported` without a management API.
 */
export async function readQueues(
  settings: ManagementSettings & Pick<Settings, "managementUrl">,
): Promise<ReadonlyMap<string, number>> {
  const { managementUrl } = settings;
  if (managementUrl === undefined) {
    const next = "set managementUrl, for example ?managementUrl=https://host:15671, or name the queues";
    throw new MessagingError("unsupported", `RabbitMQ cannot list queues by AMQP; ${next}`);
  }
  const columns = "?columns=name,messages_unacknowledged";
  const [queues = []] = await readLists(managementUrl, settings, "queues", isNamed, [["queues", columns]]);
  const unacknowledged = new Map<string, number>();
  for (const { name, messages_unacknowledged: count } of queues) {
    unacknowledged.set(name, typeof count === "number" ? count : 0);
  }
  return unacknowledged;
}

/** An existing queue or exchange. */
export interface ExistingResource {
  readonly name: string;
  /** The type of an exchange, or of a queue from 3.8 on. */
  readonly type: string;
  readonly durable: boolean;
  readonly auto_delete: boolean;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** An existing binding. */
export interface ExistingBinding {
  readonly source: string;
  readonly destination: string;
  readonly destination_type: string;
  readonly routing_key: string;
}

/** Everything that exists in a virtual host. */
export interface ExistingTopology {
  readonly queues: readonly ExistingResource[];
  readonly exchanges: readonly ExistingResource[];
  readonly bindings: readonly ExistingBinding[];
}

/** Reads what exists in the virtual host, with its properties. Rejects as {@link readPolicies}. */
export async function readTopology(managementUrl: string, settings: ManagementSettings): Promise<ExistingTopology> {
  const [queues = [], exchanges = [], bindings = []] = await readLists(
    managementUrl,
    settings,
    "queues and bindings",
    isResource,
    [
      // Statistics come from a cache and would be most of the answer.
      ["queues", "?disable_stats=true&columns=name,type,durable,auto_delete,arguments"],
      ["exchanges", "?columns=name,type,durable,auto_delete,arguments"],
      ["bindings", "?columns=source,destination,destination_type,routing_key"],
    ],
  );
  return {
    queues: queues.filter(isExisting),
    exchanges: exchanges.filter(isExisting),
    bindings: bindings.filter(isBinding),
  };
}

/** Counts messages that are off one wait queue and not on the next. Rejects as {@link readPolicies}. */
export async function readDelaysUnderWay(managementUrl: string, settings: ManagementSettings): Promise<number> {
  const pattern = encodeURIComponent(`^${OWN_PREFIX.replaceAll(".", "\\.")}`);
  const [queues = []] = await readLists(managementUrl, settings, "queues", isNamed, [
    ["queues", `?page=1&page_size=100&use_regex=true&name=${pattern}&columns=name,messages_dlx`],
  ]);
  return queues.reduce((sum, { messages_dlx: count }) => sum + (typeof count === "number" ? count : 0), 0);
}

async function readLists<Item>(
  managementUrl: string,
  settings: ManagementSettings,
  what: string,
  isItem: (value: unknown) => value is Item,
  lists: readonly (readonly [kind: string, query?: string])[],
): Promise<readonly (readonly Item[])[]> {
  const read = async ([kind, query = ""]: readonly [kind: string, query?: string]): Promise<readonly Item[]> => {
    const found = await getJson(`${managementUrl}/api/${kind}/${encodeURIComponent(settings.vhost)}${query}`, settings);
    const list: unknown = Array.isArray(found) ? found : (found as { readonly items?: unknown } | null)?.items;
    if (!Array.isArray(list)) throw new Unusable(`it is no list of ${kind}`);
    if (!list.every(isItem)) throw new Unusable(`its list of ${kind} contains something else`);
    return list;
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
      const next = "the user needs a tag such as management, and permissions in the virtual host";
      throw new MessagingError("unauthorized", `${place} refuses to show ${what} (${status}); ${next}`);
    }
    if (status !== undefined) {
      throw new MessagingError("not-found", `${place} answered ${status}; check managementUrl`);
    }
    if (error instanceof TooLong) {
      throw new MessagingError(
        "unsupported",
        `${place} returned more ${what} than are read: ${error.message}; check them manually`,
      );
    }
    if (error instanceof Unusable) {
      const next = "check managementUrl";
      const answered = `the answer of ${managementUrl} about ${what} is not one of RabbitMQ's management API`;
      throw new MessagingError("unreachable", `${answered} (${error.message}); ${next}`, { cause: error.cause });
    }
    const next = "check managementUrl, and that the management plugin is enabled";
    throw new MessagingError("unreachable", `${place} cannot be reached for ${what}; ${next}`, {
      cause: settings.redactor.error(error),
    });
  }
}

function isPolicy(value: unknown): value is Policy {
  const { name, pattern, definition } = (value ?? {}) as Partial<Record<keyof Policy, unknown>>;
  return (
    typeof name === "string" && typeof pattern === "string" && typeof definition === "object" && definition !== null
  );
}

interface Named {
  readonly name: string;
  readonly arguments?: unknown;
  readonly policy?: unknown;
  readonly operator_policy?: unknown;
  readonly messages_unacknowledged?: unknown;
  readonly messages_dlx?: unknown;
}

function isNamed(value: unknown): value is Named {
  return typeof value === "object" && value !== null && typeof (value as Partial<Named>).name === "string";
}

function isResource(value: unknown): value is ExistingResource | ExistingBinding {
  return isExisting(value) || isBinding(value);
}

function isExisting(value: unknown): value is ExistingResource {
  if (!isNamed(value)) return false;
  return typeof value.arguments === "object" && value.arguments !== null;
}

function isBinding(value: unknown): value is ExistingBinding {
  const { source, destination, destination_type, routing_key } = (value ?? {}) as Partial<
    Record<keyof ExistingBinding, unknown>
  >;
  return [source, destination, destination_type, routing_key].every((text) => typeof text === "string");
}

/** The answer is not the management API's. */
class Unusable extends Error {}

class TooLong extends Error {}

class Refusal extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`HTTP status ${status}`);
    this.status = status;
  }
}

/** Uses Node's client, which takes the connection's certificates. */
async function getJson(url: string, settings: ManagementSettings): Promise<unknown> {
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
    const request = (isEncrypted ? requestEncrypted : requestPlain)(url, options, (response) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on("data", (part: Buffer) => {
        parts.push(part);
        bytes += part.length;
        if (bytes > MAX_BYTES) response.destroy(new TooLong(`it has over ${MAX_BYTES} bytes`));
      });
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode !== 200) {
          reject(new Refusal(response.statusCode ?? 0));
          return;
        }
        try {
          resolve(ANSWERS.decode(Buffer.concat(parts)));
        } catch (error) {
          const text = thrownText(error);
          reject(text.includes("holds more than") ? new TooLong(text) : new Unusable(text, { cause: error }));
        }
      });
    });
    request.on("error", reject);
    request.end();
  });
}
