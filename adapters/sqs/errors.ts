import type { SendResult } from "../../core/adapter.ts";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { AnswerShapeError } from "./connection.ts";
import { CredentialsError, isCredentialsError } from "./credentials.ts";
import { shownCode, shownRequestId, shownText } from "./message-codec.ts";
import { rememberSent, withoutSent } from "./own-secrets.ts";

/** What is read of an error of the AWS SDK. */
interface AwsError {
  readonly name?: string;
  readonly message?: string;
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: unknown };
  readonly $retryable?: { readonly throttling?: boolean };
}

const MISSING = ["QueueDoesNotExist", "NonExistentQueue", "NotFound", "NotFoundException"];
/**
 * What is refused whichever the message is, until somebody does something about it: credentials, rights, the clock that a
 * signature is made by, and the key that a queue is encrypted with. SQS, SNS and their older protocols differ in the endings.
 */
const UNAUTHORIZED =
  /^(AccessDenied|AuthorizationError|NotAuthorized|CredentialsProviderError|TokenProviderError|Expired(Token|Credentials)|TokenRefreshRequired|RequestExpired|RequestTimeTooSkewed|IncompleteSignature|SignatureDoesNotMatch|InvalidSignature|InvalidAccessKeyId|InvalidClientTokenId|InvalidSecurity|InvalidToken|MissingAuthenticationToken|UnrecognizedClient|OptInRequired|KMS\.?(AccessDenied|Disabled|NotFound|OptInRequired|InvalidState|InvalidKeyUsage))/i;
const TOO_LARGE = ["BatchRequestTooLong", "MessageTooLong", "RequestEntityTooLarge"];
const TOO_LARGE_TEXT = /must be shorter than|too long/i;
const THROTTLED = /throttl|TooManyRequests|SlowDown|RequestLimitExceeded|OverLimit/i;
/** What SQS answers to a receipt handle that is not, or no longer, in our hands. */
const GONE = ["ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidIdFormat"];
const OLD_PREFIX = "AWS.SimpleQueueService.";

/** What the SDK calls a refusal that is not in the form of AWS. */
const UNREASONED = ["", "Unknown", "UnknownError", "SyntaxError"];

/** The service's name of an error, fit to be shown. The query protocol of old had a prefix before some of them. */
export function errorName(error: unknown): string {
  return plainCode(String((error as AwsError | null)?.name ?? ""));
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
 * Whether SQS says that a message is not ours any more. It says so by the value of a parameter as well; of those that we
 * give only the receipt handle can go bad, and the visibility timeout can come to be too long.
 */
export function isGone(code: string, message: string): boolean {
  const plain = plainCode(code);
  return GONE.includes(plain) || (plain === "InvalidParameterValue" && !message.includes("VisibilityTimeout"));
}

/** Whether AWS answered at all. */
export function isAnswer(error: unknown): boolean {
  return statusOf(error) !== undefined;
}

/** Whether nothing was heard of AWS. Without credentials it was not asked. */
export function isUnanswered(error: unknown): boolean {
  return !isAnswer(error) && !isUnauthorized(error);
}

/** Whether AWS does nothing for us until the credentials or the rights are others. */
export function isUnauthorized(error: unknown): boolean {
  if (UNAUTHORIZED.test(errorName(error))) return true;
  const status = statusOf(error);
  return (status === 401 || status === 403) && !isThrottled(error);
}

/** Whether the answer is a refusal that the same request would get again. */
export function isRefusal(error: unknown): boolean {
  const status = statusOf(error) ?? 0;
  return status >= 400 && status < 500 && !isThrottled(error);
}

function statusOf(error: unknown): number | undefined {
  return (error as AwsError | null)?.$metadata?.httpStatusCode;
}

/** What the SDK hides in errors: the response as it came, with it the request, and in that the token, the signature, the bodies. */
const RAW = ["$response", "$responseBodyText"];

/** Whether a URL of the configuration is none. The error of Node holds the whole of it. */
function isOfUrl(error: unknown): boolean {
  return (error as { readonly code?: unknown } | null)?.code === "ERR_INVALID_URL";
}

/**
 * An error of the SDK as the cause of another. Of what a service said remain its name, the status, the id of the request
 * and of its message what may be shown. What other errors say, as those of the network do, is left as it is.
 */
export function asCause(error: unknown): unknown {
  if (isOfUrl(error)) return Object.assign(new TypeError("Invalid URL"), { code: "ERR_INVALID_URL" });
  const isOfService = isAnswer(error) || RAW.some((name) => Object.hasOwn(Object(error), name));
  if (!(error instanceof Error) || !isOfService) return error;
  const { $metadata: { httpStatusCode, requestId: id } = {}, $retryable } = error as AwsError;
  // Made anew: the text stands in the stack, too.
  const copy = Object.setPrototypeOf(
    new Error(withoutSent(error, shownText(error.message))),
    Object.getPrototypeOf(error),
  );
  const requestId = shownRequestId(id);
  const $metadata = { httpStatusCode, ...(requestId === undefined ? {} : { requestId }) };
  return Object.assign(copy, {
    name: errorName(error),
    $metadata,
    ...($retryable === undefined ? {} : { $retryable }),
  });
}

/** An error of the AWS SDK as one of ours. Its message names the service's code, and quotes nothing that a service said. */
export function asMessagingError(what: string, error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  const name = errorName(error);
  const text = String((error as AwsError | null)?.message ?? "");
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
    const help = "give sqs({ credentials }), or check AWS_ACCESS_KEY_ID, AWS_PROFILE and the role of this machine";
    return new MessagingError("unauthorized", `${what}: no credentials could be had (${name}); ${help}`, options);
  }
  if (isUnauthorized(error)) {
    const help = "check the credentials and the policy of the role";
    return new MessagingError("unauthorized", `${what}: the service refused it as ${name}; ${help}`, options);
  }
  if (TOO_LARGE.includes(name) || (isRefusal(error) && TOO_LARGE_TEXT.test(text))) {
    return new MessagingError(
      "too-large",
      `${what}: the service says ${name}; send a reference to the data instead`,
      options,
    );
  }
  if (isThrottled(error)) {
    return new MessagingError("overloaded", `${what}: the service says ${name}, and is asked again later`, options);
  }
  if (/region is missing/i.test(text)) {
    return new MessagingError("invalid", `${what}: no region is set; give sqs({ region }), or set AWS_REGION`, options);
  }
  if (isOfUrl(error)) {
    const help = "check AWS_CONTAINER_CREDENTIALS_FULL_URI, and endpoint_url in the AWS SDK's shared configuration";
    return new MessagingError("invalid", `${what}: a URL of the AWS SDK's configuration is none; ${help}`, options);
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
  if (UNREASONED.includes(name)) {
    const said = `what answered says status ${statusOf(error)} and no reason`;
    return new MessagingError("refused", `${what}: ${said}; check the endpoint, and what stands in between`, options);
  }
  return new MessagingError("refused", `${what}: the service refused it as ${name}; see the cause`, options);
}

/** What a failed request says of every message in it; undefined if that may differ from message to message. */
export function requestResult(where: string, error: unknown, count: number): SendResult | undefined {
  const known = isMissing(error) || isUnauthorized(error);
  if (!known) {
    if (!isRefusal(error)) return { status: "unknown", cause: asCause(error) };
    if (count > 1) return undefined;
  }
  return { status: "rejected", error: asMessagingError(where, error) };
}

/** What AWS says of an entry of a batch that failed. */
interface FailedEntry {
  readonly Code?: string | undefined;
  readonly SenderFault?: boolean | undefined;
  readonly Message?: string | undefined;
}

/** What a failed entry of a batch says of its message; `sent` is what was sent of it. */
export function entryResult(
  where: string,
  { Code = "", SenderFault = false, Message = "" }: FailedEntry,
  sent: object,
): SendResult {
  const cause = entryError(Code, SenderFault, Message);
  rememberSent(cause, sent);
  if (!isRefusal(cause) && !isUnauthorized(cause)) return { status: "unknown", cause: asCause(cause) };
  return { status: "rejected", error: asMessagingError(where, cause) };
}

/** What a batch says of a failed entry, as the error that it would be of a request alone. */
export function entryError(code: string, senderFault: boolean, message: string): Error {
  const $metadata = { httpStatusCode: senderFault ? 400 : 500 };
  return Object.assign(new Error(message), { name: plainCode(code), $metadata });
}

/** What is read of an error of the network, or of whatever else keeps an answer away. */
interface NetworkError {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly hostname?: unknown;
  readonly address?: unknown;
  readonly port?: unknown;
  /** Of an attempt on several addresses of one host. */
  readonly errors?: unknown;
}

const ENDPOINT = "the endpoint (endpoint, snsEndpoint, AWS_ENDPOINT_URL_…)";
const TLS = /^(EPROTO|CERT_|ERR_TLS|ERR_SSL|UNABLE_TO_|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED)/;

/** Why AWS gave no answer, where it was asked, and what to do about it. */
function whyUnanswered(error: unknown): string {
  const [reason, place] = reasonOf(error);
  const at = place === undefined ? "" : ` of ${place}`;
  if (error instanceof AnswerShapeError) {
    return `${error.message}; check ${ENDPOINT}, and what stands in between`;
  }
  switch (reason) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `the name${at} is not found (${reason}); check the region, ${ENDPOINT}, and the DNS of this machine`;
    case "ECONNREFUSED":
      return `${place ?? "the endpoint"} refuses connections (${reason}); check ${ENDPOINT}, and that the server runs`;
    case "ENETUNREACH":
    case "EHOSTUNREACH":
      return `there is no way to ${place ?? "the endpoint"} (${reason}); check the network, and ${ENDPOINT}`;
    case "ECONNRESET":
    case "EPIPE":
      return `the connection broke (${reason}); ask again, and check the network if it lasts`;
    case "TimeoutError":
    case "ETIMEDOUT":
      return `no answer in time (${reason}); check the network, ${ENDPOINT}, and connectTimeoutMs and requestTimeoutMs`;
    default:
      if (TLS.test(reason)) {
        return `no TLS connection could be made (${reason}); check http or https in ${ENDPOINT}, and the server's certificate`;
      }
      return `no answer (${reason}); see the cause`;
  }
}

/** The code or name of an error, and the host and port that it happened with. */
function reasonOf(error: unknown): readonly [reason: string, place: string | undefined] {
  const { name, code, hostname, address, port, errors } = (error ?? {}) as NetworkError;
  const [first] = Array.isArray(errors) ? errors : [];
  if (first !== undefined && first !== error && address === undefined) return reasonOf(first);
  const host = hostname ?? address;
  const place = host === undefined ? undefined : `${String(host)}${port === undefined ? "" : `:${String(port)}`}`;
  return [String(code ?? (name || "unknown error")), place];
}
