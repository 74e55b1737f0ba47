import type { SendResult } from "../../core/adapter.ts";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { AnswerShapeError } from "./connection.ts";
import { CredentialsError, isCredentialsError, rememberSent, withoutSent } from "./credentials.ts";
import { shownCode, shownRequestId, shownText } from "./message-codec.ts";

/** The fields of an AWS SDK error that are read. */
interface AwsError {
  readonly name?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: unknown };
  readonly $retryable?: { readonly throttling?: boolean };
}

const MISSING = ["QueueDoesNotExist", "NonExistentQueue", "NotFound", "NotFoundException"];
/**
 * Refusals of every message until an operator acts: credentials, permissions, the clock of a signature, the encryption
 * key of a queue. SQS, SNS and their older protocols use different endings.
 */
const UNAUTHORIZED =
  /^(AccessDenied|AuthorizationError|NotAuthorized|CredentialsProviderError|TokenProviderError|Expired(Token|Credentials)|TokenRefreshRequired|RequestExpired|RequestTimeTooSkewed|IncompleteSignature|SignatureDoesNotMatch|InvalidSignature|InvalidAccessKeyId|InvalidClientTokenId|InvalidSecurity|InvalidToken|MissingAuthenticationToken|UnrecognizedClient|OptInRequired|KMS\.?(AccessDenied|Disabled|NotFound|OptInRequired|InvalidState|InvalidKeyUsage))/i;
const TOO_LARGE = ["BatchRequestTooLong", "MessageTooLong", "RequestEntityTooLarge"];
const TOO_LARGE_TEXT = /must be shorter than|too long/i;
/** The SDK's texts for a region that is not set, or is no host name. */
const NO_REGION = /region is missing|region not accepted/i;
/** AWS's codes for a message that it never takes as it is. */
const INVALID_MESSAGE =
  /^(Invalid(Parameter(Value)?|MessageContents|Attribute(Name|Value))|ParameterValueInvalid)(Exception)?$/;
const THROTTLED = /throttl|TooManyRequests|SlowDown|RequestLimitExceeded|OverLimit/i;
/** SQS's answers for a receipt handle whose lease is gone. */
const GONE = ["ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidIdFormat"];
const OLD_PREFIX = "AWS.SimpleQueueService.";

/** The SDK's names for a refusal that is not in AWS's form. */
const NO_REASON = ["", "Unknown", "UnknownError", "SyntaxError", "TypeError"];

/** The error code of the service, redacted. The old query protocol put a prefix before some codes. */
export function errorName(error: unknown): string {
  const name = (error as AwsError | null)?.name;
  return typeof name === "string" ? plainCode(name) : "";
}

function plainCode(code: string): string {
  return shownCode(code.startsWith(OLD_PREFIX) ? code.slice(OLD_PREFIX.length) : code);
}

export function isMissing(error: unknown): boolean {
  return MISSING.includes(errorName(error));
}

function isThrottled(error: unknown): boolean {
  const { $retryable } = (error ?? {}) as AwsError;
  return $retryable?.throttling === true || statusOf(error) === 429 || THROTTLED.test(errorName(error));
}

/**
 * Whether the lease of a message is gone. SQS also reports that as an invalid parameter value: of our parameters only
 * the receipt handle can become invalid, and the visibility timeout too long.
 */
export function isGone(code: string, message: string): boolean {
  const plain = plainCode(code);
  return GONE.includes(plain) || (plain === "InvalidParameterValue" && !message.includes("VisibilityTimeout"));
}

/** Whether AWS answered at all. */
export function isAnswer(error: unknown): boolean {
  return statusOf(error) !== undefined;
}

/** Whether AWS did not answer. Without credentials it was not asked. */
export function isUnanswered(error: unknown): boolean {
  return !isAnswer(error) && !isUnauthorized(error);
}

/** Whether AWS refuses everything until credentials or permissions change. */
export function isUnauthorized(error: unknown): boolean {
  if (UNAUTHORIZED.test(errorName(error))) return true;
  const status = statusOf(error);
  return (status === 401 || status === 403) && !isThrottled(error);
}

/** Whether the same request would be refused again. */
export function isRefusal(error: unknown): boolean {
  const status = statusOf(error) ?? 0;
  return status >= 400 && status < 500 && !isThrottled(error);
}

function statusOf(error: unknown): number | undefined {
  return (error as AwsError | null)?.$metadata?.httpStatusCode;
}

/** Fields in which the SDK keeps the raw response, and with it the request's token, signature and bodies. */
const RAW = ["$response", "$responseBodyText"];

/** Whether a configured URL is invalid. Node's error contains the whole URL. */
function isOfUrl(error: unknown): boolean {
  return !isAnswer(error) && (error as { readonly code?: unknown } | null)?.code === "ERR_INVALID_URL";
}

/**
 * Converts an SDK error to a cause that may be shown. It keeps a service's error name, status, request id and a
 * redacted message. Errors of other origin, such as the network, stay as they are.
 */
export function asCause(error: unknown): unknown {
  if (isOfUrl(error)) return Object.assign(new TypeError("Invalid URL"), { code: "ERR_INVALID_URL" });
  const isOfService = isAnswer(error) || RAW.some((name) => Object.hasOwn(Object(error), name));
  if (!(error instanceof Error) || !isOfService) return error;
  const { $metadata: { httpStatusCode, requestId: id } = {}, $retryable } = error as AwsError;
  // A new error, because the stack contains the text too.
  const copy = Object.setPrototypeOf(
    new Error(withoutSent(error, shownText(thrownText(error)))),
    Object.getPrototypeOf(error),
  );
  const requestId = shownRequestId(id);
  const $metadata = { httpStatusCode, ...(requestId === undefined ? {} : { requestId }) };
  return Object.assign(copy, {
    name: errorName(error),
    $metadata,
    ...($retryable === undefined ? {} : { $retryable: { throttling: $retryable.throttling === true } }),
  });
}

/** Converts an SDK error. The message names the service's code, and quotes no text of the service. */
export function asMessagingError(what: string, error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  const name = errorName(error);
  const text = thrownText(error);
  const options = { cause: asCause(error) };
  if (MISSING.includes(name)) {
    return new MessagingError(
      "not-found",
      `${what}: it does not exist; ${DECLARE_IT}, or check region and name`,
      options,
    );
  }
  if (error instanceof CredentialsError) {
    return new MessagingError("unauthorized", `${what}: ${error.message}`, { cause: asCause(error.cause ?? error) });
  }
  if (isCredentialsError(error)) {
    const help = "set sqs({ credentials }), or check AWS_ACCESS_KEY_ID, AWS_PROFILE and the role of this machine";
    return new MessagingError("unauthorized", `${what}: there are no credentials (${name}); ${help}`, options);
  }
  if (isUnauthorized(error)) {
    const help = "check the credentials and the policy of the role";
    return new MessagingError("unauthorized", `${what}: the service refused it as ${name}; ${help}`, options);
  }
  if (TOO_LARGE.includes(name) || (isRefusal(error) && TOO_LARGE_TEXT.test(text))) {
    return new MessagingError(
      "too-large",
      `${what}: the service answered ${name}; send a reference to the data instead`,
      options,
    );
  }
  if (isThrottled(error)) {
    return new MessagingError(
      "overloaded",
      `${what}: the service answered ${name}; anybroker tries again later`,
      options,
    );
  }
  if (!isAnswer(error) && NO_REGION.test(text)) {
    const help = "set sqs({ region }) or AWS_REGION, such as eu-central-1";
    return new MessagingError("invalid", `${what}: no valid region is set; ${help}`, options);
  }
  if (isOfUrl(error)) {
    const help = "check AWS_CONTAINER_CREDENTIALS_FULL_URI, and endpoint_url in the AWS SDK's shared configuration";
    return new MessagingError("invalid", `${what}: a URL in the AWS SDK's configuration is invalid; ${help}`, options);
  }
  if (!isAnswer(error)) {
    return new MessagingError("unreachable", `${what}: ${whyUnanswered(error)}`, options);
  }
  if (!isRefusal(error)) {
    return new MessagingError(
      "unreachable",
      `${what}: the service failed (${name}, status ${statusOf(error)})`,
      options,
    );
  }
  if (NO_REASON.includes(name)) {
    const answer = `the server answered status ${statusOf(error)} without a reason`;
    return new MessagingError("refused", `${what}: ${answer}; check the endpoint, and proxies in between`, options);
  }
  return new MessagingError("refused", `${what}: the service refused it as ${name}; see the cause`, options);
}

/** The result of all messages of a failed request; undefined if it may differ between messages. */
export function requestResult(where: string, error: unknown, count: number): SendResult | undefined {
  if (!isUnauthorized(error)) {
    if (!isRefusal(error)) return { status: "unknown", cause: asCause(error) };
    if (count > 1) return undefined;
  }
  return rejected(where, error);
}

/** The result of a refused message. The engine sends nothing `invalid` again as it is, but may send a smaller copy. */
function rejected(where: string, cause: unknown): SendResult {
  const error = asMessagingError(where, cause);
  const name = errorName(cause);
  if (error.code !== "refused" || !INVALID_MESSAGE.test(name)) return { status: "rejected", error };
  const text = `${where}: the service takes no such message (${name}): its body, a header or its routing key is invalid; see the cause`;
  return { status: "rejected", error: new MessagingError("invalid", text, { cause: asCause(cause) }) };
}

/** A failed entry of a batch. */
interface FailedEntry {
  readonly Code?: string | undefined;
  readonly SenderFault?: boolean | undefined;
  readonly Message?: string | undefined;
}

/** The result of a failed entry; `sent` is its content. */
export function entryResult(
  where: string,
  { Code = "", SenderFault = false, Message = "" }: FailedEntry,
  sent: object,
): SendResult {
  const cause = entryError(Code, SenderFault, Message);
  rememberSent(cause, sent);
  if (!isRefusal(cause) && !isUnauthorized(cause)) return { status: "unknown", cause: asCause(cause) };
  return rejected(where, cause);
}

/** A failed entry as the error of a single request. */
export function entryError(code: string, senderFault: boolean, message: string): Error {
  const $metadata = { httpStatusCode: senderFault ? 400 : 500 };
  return Object.assign(new Error(message), { name: plainCode(code), $metadata });
}

/** The fields of a network error that are read. */
interface NetworkError {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly hostname?: unknown;
  readonly address?: unknown;
  readonly port?: unknown;
  /** The errors of several addresses of one host. */
  readonly errors?: unknown;
}

const ENDPOINT = "the endpoint (endpoint, snsEndpoint, AWS_ENDPOINT_URL_…)";
const TLS = /^(EPROTO|CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED)/;

/** Why AWS did not answer, and what to do about it. */
function whyUnanswered(error: unknown): string {
  const [reason, place] = reasonOf(error);
  if (error instanceof AnswerShapeError) {
    return `${error.message}; check ${ENDPOINT}, and proxies in between`;
  }
  switch (reason) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the host name${place === undefined ? "" : ` ${place}`} is not found (${reason}); check the region, ${ENDPOINT}, and the DNS of this machine`;
    case "ECONNREFUSED":
      return `${place ?? "the endpoint"} refuses connections (${reason}); check ${ENDPOINT}, and that the server runs`;
    case "ENETUNREACH":
    case "EHOSTUNREACH":
      return `there is no route to ${place ?? "the endpoint"} (${reason}); check the network, and ${ENDPOINT}`;
    case "ECONNRESET":
    case "EPIPE":
      return `the connection broke (${reason}); try again, and check the network if it continues`;
    case "TimeoutError":
    case "ETIMEDOUT":
      return `no answer in time (${reason}); check the network, ${ENDPOINT}, and connectTimeoutMs and requestTimeoutMs`;
    default:
      if (TLS.test(reason)) {
        return `no TLS connection could be opened (${reason}); check http or https in ${ENDPOINT}, and the server's certificate`;
      }
      return `no answer (${reason}); see the cause`;
  }
}

/** The code or name of an error, and its host and port. */
function reasonOf(error: unknown): readonly [reason: string, place: string | undefined] {
  const { name, code, hostname, address, port, errors } = (error ?? {}) as NetworkError;
  const [first] = Array.isArray(errors) ? errors : [];
  if (first !== undefined && first !== error && address === undefined) return reasonOf(first);
  const host = hostname ?? address;
  const place = host === undefined ? undefined : `${String(host)}${port === undefined ? "" : `:${String(port)}`}`;
  return [String(code ?? (name || "unknown error")), place];
}
