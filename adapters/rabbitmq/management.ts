import { request as requestPlain } from "node:http";
import { request as requestEncrypted } from "node:https";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { within } from "./deadline.ts";
import type { Settings } from "./options.ts";
import type { Policy, PolicyLists } from "./policies.ts";

type ManagementSettings = Pick<Settings, "username" | "password" | "tls" | "vhost" | "requestTimeoutMs">;

/** The most bytes of an answer: policies are few and short. */
const MOST_BYTES = 16 * 1024 * 1024;

/** The policies of the virtual host. Rejects with `unauthorized`, `not-found`, `unreachable` or `timeout`. */
export async function readPolicies(managementUrl: string, settings: ManagementSettings): Promise<PolicyLists> {
  const read = async (kind: string): Promise<readonly Policy[]> => {
    const found = await ask(`${managementUrl}/api/${kind}/${encodeURIComponent(settings.vhost)}`, settings);
    return Array.isArray(found) ? found.filter(isPolicy) : [];
  };
  const place = `RabbitMQ's management API at ${managementUrl}`;
  try {
    const [policies, operatorPolicies] = await within(
      settings.requestTimeoutMs,
      `show its policies at ${managementUrl}`,
      Promise.all([read("policies"), read("operator-policies")]),
    );
    return { policies, operatorPolicies };
  } catch (error) {
    if (isMessagingError(error)) throw error;
    const status = error instanceof Refusal ? error.status : undefined;
    if (status === 401 || status === 403) {
      const next = "the user has to have a tag such as management, and permissions in the virtual host";
      throw new MessagingError("unauthorized", `${place} refuses to show policies (${status}); ${next}`);
    }
    if (status !== undefined) {
      throw new MessagingError("not-found", `${place} answers ${status}; see that managementUrl leads to it`);
    }
    const next = "see that managementUrl leads to it, and that its plugin is enabled";
    throw new MessagingError("unreachable", `${place} cannot be asked for policies; ${next}`, { cause: error });
  }
}

function isPolicy(value: unknown): value is Policy {
  const { name, pattern, definition } = (value ?? {}) as Partial<Record<keyof Policy, unknown>>;
  return (
    typeof name === "string" && typeof pattern === "string" && typeof definition === "object" && definition !== null
  );
}

class Refusal extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`HTTP status ${status}`);
    this.status = status;
  }
}

/** By Node's own client, which takes the certificates of the connection. */
function ask(url: string, { username, password, tls, requestTimeoutMs }: ManagementSettings): Promise<unknown> {
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
