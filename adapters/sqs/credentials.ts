import { thrownClass } from "../../core/foreign.ts";
import type { AwsCredentials, SqsOptions } from "./options.ts";

/** The function that was given as `credentials` gave none. Its message holds nothing of what was thrown or returned. */
export class CredentialsError extends Error {
  // The SDK's own name for it: nothing was asked of AWS.
  override readonly name = "CredentialsProviderError";
}

const NAMES = /^(Credentials|Token)ProviderError$/;

/** Whether no credentials could be had, so that AWS was not asked. */
export function isCredentialsError(error: unknown): boolean {
  return NAMES.test(String((error as { readonly name?: unknown } | null)?.name ?? ""));
}

/** Whether something looks like credentials. */
export function areCredentials(value: unknown): value is AwsCredentials {
  const { accessKeyId, secretAccessKey, sessionToken } = (value ?? {}) as Partial<Record<string, unknown>>;
  const isText = (one: unknown): boolean => typeof one === "string" && one !== "";
  return isText(accessKeyId) && isText(secretAccessKey) && (sessionToken === undefined || isText(sessionToken));
}

/**
 * The credentials as the SDK takes them. A function that fails, or returns none, fails with a {@link CredentialsError}:
 * the SDK says the same of it as of a connection that broke.
 */
export function providedCredentials(credentials: SqsOptions["credentials"]): SqsOptions["credentials"] {
  if (typeof credentials !== "function") return credentials;
  // Providers of the SDK are told which client asks.
  const ask = credentials as (...told: readonly unknown[]) => Promise<AwsCredentials>;
  return async (...told: readonly unknown[]) => {
    let given: AwsCredentials;
    try {
      given = await ask(...told);
    } catch (cause) {
      if (isCredentialsError(cause)) throw cause;
      const what = `the function given as credentials failed (${thrownClass(cause)})`;
      throw new CredentialsError(`${what}; see the cause, and whether it can reach what it asks`, { cause });
    }
    if (areCredentials(given)) return given;
    throw new CredentialsError(
      "the function given as credentials returned none; make it return { accessKeyId, secretAccessKey }, with sessionToken and expiration where they have one",
    );
  };
}
