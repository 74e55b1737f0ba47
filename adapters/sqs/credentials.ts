import type { SQSClient } from "@aws-sdk/client-sqs";
import { settleWithin } from "../../core/clock.ts";
import { thrownClass } from "../../core/foreign.ts";
import { type AwsCredentials, flawOf, KEYS, type SqsOptions } from "./options.ts";

/** The credentials function returned none. The message contains nothing that it threw or returned. */
export class CredentialsError extends Error {
  // The SDK's name for it: AWS was not asked.
  override readonly name = "CredentialsProviderError";
}

const NAMES = /^(Credentials|Token)ProviderError$/;

/** Whether there were no credentials, so that AWS was not asked. */
export function isCredentialsError(error: unknown): boolean {
  return NAMES.test(String((error as { readonly name?: unknown } | null)?.name ?? ""));
}

/**
 * Copies credentials after a check. The SDK keeps them until the expiration: with an invalid expiration, or a token
 * that no header can carry, every request would fail for ever.
 */
function checkedCredentials<Given extends AwsCredentials>(where: string, given: Given, help: string): Given {
  const copy = { ...given };
  const flaw = flawOf(copy);
  if (flaw !== undefined) throw new CredentialsError(`${where} ${flaw}; ${help}`);
  return copy.expiration === undefined ? copy : { ...copy, expiration: new Date(copy.expiration) };
}

/** Called with the credentials that are used. */
type Learn = (credentials: AwsCredentials) => void;

type Provider = NonNullable<SQSClient["config"]["credentials"]>;

/**
 * Bounds the SDK's credential chain, which may wait for ever. Rejects with a {@link CredentialsError} after
 * `timeoutMs`, and for invalid credentials.
 */
export function chainCredentials(chain: Provider, timeoutMs: number, learn: Learn): Provider {
  const help = "set sqs({ credentials }), or check AWS_PROFILE, its credential_process and the role of this machine";
  const late = (): CredentialsError =>
    new CredentialsError(`the AWS SDK's credential chain found no credentials within ${timeoutMs} ms; ${help}`);
  const bounded: Provider = async (...parameters) => {
    const found = await settleWithin(timeoutMs, late, chain(...parameters));
    const checked = checkedCredentials("the AWS SDK's credential chain found", found, help);
    learn(checked);
    return checked;
  };
  // Keeps the properties that the SDK has set on the provider.
  return Object.assign(bounded, chain);
}

/**
 * The credentials as the SDK takes them. A function that fails, takes too long or returns invalid credentials fails
 * with a {@link CredentialsError}: the SDK alone would report a broken connection, or wait for ever.
 */
export function providedCredentials(
  credentials: SqsOptions["credentials"],
  timeoutMs: number,
  learn: Learn,
): SqsOptions["credentials"] {
  if (typeof credentials !== "function") {
    if (credentials !== undefined) learn(credentials);
    return credentials;
  }
  // Providers of the SDK get the client as an argument.
  const callProvider = credentials as (...parameters: readonly unknown[]) => Promise<AwsCredentials>;
  const late = (): CredentialsError =>
    new CredentialsError(
      `the credentials function returned nothing within ${timeoutMs} ms (requestTimeoutMs); check whether it can reach its server`,
    );
  const help = `make it return ${KEYS}, with sessionToken and expiration if they have them`;
  return async (...parameters: readonly unknown[]) => {
    try {
      const given = await settleWithin(timeoutMs, late, Promise.resolve(callProvider(...parameters)));
      const checked = checkedCredentials("the credentials function returned", given, help);
      learn(checked);
      return checked;
    } catch (cause) {
      if (isCredentialsError(cause)) throw cause;
      const what = `the credentials function failed (${thrownClass(cause)})`;
      throw new CredentialsError(`${what}; see the cause, and check whether it can reach its server`, { cause });
    }
  };
}
