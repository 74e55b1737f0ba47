import type { SQSClient } from "@aws-sdk/client-sqs";
import { settleWithin } from "../../core/clock.ts";
import { thrownClass } from "../../core/foreign.ts";
import { type AwsCredentials, flawOf, KEYS, type SqsOptions } from "./options.ts";

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

/**
 * A copy of credentials that are sound. The SDK keeps what it is given until the expiration: one that is no time, or a
 * token that no header can hold, would stay for ever, and every request fail.
 */
function soundCredentials<Given extends AwsCredentials>(where: string, given: Given, help: string): Given {
  const copy = { ...given };
  const flaw = flawOf(copy);
  if (flaw !== undefined) throw new CredentialsError(`${where} ${flaw}; ${help}`);
  return copy.expiration === undefined ? copy : { ...copy, expiration: new Date(copy.expiration) };
}

/** Is told which credentials are used. */
type Learn = (credentials: AwsCredentials) => void;

type Provider = NonNullable<SQSClient["config"]["credentials"]>;

/**
 * What the SDK's own chain finds. Rejects with a {@link CredentialsError} once that has taken so long, since it may ask who
 * never answers, and for credentials that are none.
 */
export function foundCredentials(chain: Provider, timeoutMs: number, learn: Learn): Provider {
  const help = "give sqs({ credentials }), or check AWS_PROFILE, its credential_process and the role of this machine";
  const late = (): CredentialsError =>
    new CredentialsError(`the AWS SDK's own chain found no credentials within ${timeoutMs} ms; ${help}`);
  const bounded: Provider = async (...told) => {
    const found = await settleWithin(timeoutMs, late, chain(...told));
    const sound = soundCredentials("the AWS SDK's own chain found", found, help);
    learn(sound);
    return sound;
  };
  // The SDK's notes of what was done to it already.
  return Object.assign(bounded, chain);
}

/**
 * The credentials as the SDK takes them. A function that fails, takes too long or returns what are no credentials fails with
 * a {@link CredentialsError}: the SDK says the same of it as of a connection that broke, and waits for ever.
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
  // Providers of the SDK are told which client asks.
  const ask = credentials as (...told: readonly unknown[]) => Promise<AwsCredentials>;
  const late = (): CredentialsError =>
    new CredentialsError(
      `the function given as credentials gave none within ${timeoutMs} ms (requestTimeoutMs); see whether it can reach what it asks`,
    );
  const help = `make it return ${KEYS}, with sessionToken and expiration where they have one`;
  return async (...told: readonly unknown[]) => {
    try {
      const given = await settleWithin(timeoutMs, late, Promise.resolve(ask(...told)));
      const sound = soundCredentials("the function given as credentials returned", given, help);
      learn(sound);
      return sound;
    } catch (cause) {
      if (isCredentialsError(cause)) throw cause;
      const what = `the function given as credentials failed (${thrownClass(cause)})`;
      throw new CredentialsError(`${what}; see the cause, and whether it can reach what it asks`, { cause });
    }
  };
}
