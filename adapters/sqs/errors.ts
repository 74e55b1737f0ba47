import type { SendResult } from "../../core/adapter.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";

/** What is read of an error of the AWS SDK. */
interface AwsError {
  readonly name?: string;
  readonly message?: string;
  readonly $fault?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $retryable?: { readonly throttling?: boolean };
}

const MISSING = ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "NotFound", "NotFoundException"];
const UNAUTHORIZED = [
  "AccessDenied",
  "AccessDeniedException",
  "AuthorizationError",
  "AuthorizationErrorException",
  "CredentialsProviderError",
  "ExpiredToken",
  "ExpiredTokenException",
  "IncompleteSignature",
  "InvalidClientTokenId",
  "InvalidSecurity",
  "InvalidSignatureException",
  "KmsAccessDenied",
  "MissingAuthenticationToken",
  "OptInRequired",
  "SignatureDoesNotMatch",
  "UnrecognizedClientException",
];
const TOO_LARGE = ["BatchRequestTooLong", "MessageTooLong", "RequestEntityTooLarge"];
const THROTTLED = /throttl|TooManyRequests|SlowDown|RequestLimitExceeded|OverLimit|LimitExceeded/i;
/** What SQS answers to a receipt handle that is not, or no longer, in our hands. */
const NOT_OURS = /ReceiptHandleIsInvalid|MessageNotInflight|InvalidParameterValue|InvalidIdFormat/;

export function errorName(error: unknown): string {
  return String((error as AwsError | null)?.name ?? "");
}

export function isMissing(error: unknown): boolean {
  return MISSING.includes(errorName(error));
}

export function isThrottled(error: unknown): boolean {
  const { $retryable, $metadata } = (error ?? {}) as AwsError;
  return $retryable?.throttling === true || $metadata?.httpStatusCode === 429 || THROTTLED.test(errorName(error));
}

export function isNotOurs(code: string): boolean {
  return NOT_OURS.test(code);
}

/** Whether AWS answered at all. */
export function isAnswer(error: unknown): boolean {
  return (error as AwsError | null)?.$metadata?.httpStatusCode !== undefined;
}

/** An error of the AWS SDK as one of ours. Its message names the service's own, which holds no body and no secret. */
export function asMessagingError(what: string, error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  const name = errorName(error);
  const options = { cause: error };
  if (MISSING.includes(name)) {
    return new MessagingError("not-found", `${what}: it does not exist; declare it, or check region and name`, options);
  }
  if (UNAUTHORIZED.includes(name)) {
    const help = "check the credentials and the policy of the role";
    return new MessagingError("unauthorized", `${what}: AWS refused it as ${name}; ${help}`, options);
  }
  if (TOO_LARGE.includes(name)) {
    return new MessagingError("too-large", `${what}: AWS says ${name}; send a reference to the data instead`, options);
  }
  if (!isAnswer(error)) {
    return new MessagingError("unreachable", `${what}: no answer (${name || "unknown error"})`, options);
  }
  return new MessagingError("rejected", `${what}: AWS refused it as ${name}; see the cause`, options);
}

/** What a failed request says of every message in it; undefined if that may differ from message to message. */
export function requestResult(where: string, error: unknown, count: number): SendResult | undefined {
  const status = (error as AwsError | null)?.$metadata?.httpStatusCode;
  if (status === undefined) {
    return errorName(error) === "CredentialsProviderError"
      ? { status: "rejected", error: asMessagingError(where, error) }
      : { status: "unknown", cause: error };
  }
  if (status >= 500 || isThrottled(error)) return { status: "unknown", cause: error };
  const known = isMissing(error) || UNAUTHORIZED.includes(errorName(error));
  if (count > 1 && !known) return undefined;
  return { status: "rejected", error: asMessagingError(where, error) };
}

/** What a failed entry of a batch says of its message. */
export function entryResult(where: string, code: string, senderFault: boolean, message: string): SendResult {
  const cause = Object.assign(new Error(message), { name: code });
  if (!senderFault || THROTTLED.test(code)) return { status: "unknown", cause };
  const error = Object.assign(cause, { $metadata: { httpStatusCode: 400 } });
  return { status: "rejected", error: asMessagingError(where, error) };
}
