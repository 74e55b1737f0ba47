/**
 * Every way in which anybroker can refuse or fail. The set is closed: a `switch` over it is exhaustive.
 *
 * - `unsupported`: the broker cannot do what was asked; said at start wherever it can be known then.
 * - `invalid`: a body, name or option is wrong; nothing was sent.
 * - `too-large`: the message is over a size or header limit; nothing was sent.
 * - `unroutable`: the broker took the message and had nowhere to put it; it is not stored.
 * - `not-found`: the destination does not exist on the broker.
 * - `conflict`: the broker holds something of that name with other properties, or two destinations collide.
 * - `unconfirmed`: the message was handed to the broker and no answer came in time: it may or may not be stored.
 * - `refused`: the broker refused the message, and it is not stored; or the handler refused it, by `deadLetter()`.
 * - `overloaded`: the publish buffer is full; nothing was sent.
 * - `timeout`: the deadline passed before the message was handed to the broker, or a handler overran its deadline.
 * - `closed`: the broker object is not started, or is stopping.
 * - `unreachable`: no connection could be made.
 * - `unauthorized`: the broker refused the credentials or the right.
 * - `partly-failed`: some messages of a `sendMany` or `publishMany` failed; `outcomes` says which.
 * - `start-failed`: start found problems; `problems` lists every one.
 */
export type MessagingErrorCode =
  | "unsupported"
  | "invalid"
  | "too-large"
  | "unroutable"
  | "not-found"
  | "conflict"
  | "unconfirmed"
  | "refused"
  | "overloaded"
  | "timeout"
  | "closed"
  | "unreachable"
  | "unauthorized"
  | "partly-failed"
  | "start-failed";

/** How one message of a `sendMany` or `publishMany` ended. */
export type SendOutcome =
  | { readonly status: "confirmed"; readonly id: string }
  | { readonly status: "failed"; readonly error: MessagingError };

/** What a {@link MessagingError} may carry besides code and message. */
export interface MessagingErrorOptions {
  /** The error of the client library, or whatever else led here. */
  readonly cause?: unknown;
  /** For `start-failed`: every problem found. */
  readonly problems?: readonly MessagingError[];
  /** For `partly-failed`: one outcome per message, in the order given. */
  readonly outcomes?: readonly SendOutcome[];
}

/**
 * The only error class of anybroker. `message` says what happened, where, and what to do next; it never holds a body,
 * a credential or a token. `cause` keeps the client library's own error.
 */
export class MessagingError extends Error {
  override readonly name = "MessagingError";
  readonly code: MessagingErrorCode;
  /** For `start-failed`: every problem found; otherwise empty. */
  readonly problems: readonly MessagingError[];
  /** For `partly-failed`: one outcome per message, in the order given; otherwise empty. */
  readonly outcomes: readonly SendOutcome[];

  constructor(code: MessagingErrorCode, message: string, options: MessagingErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.problems = options.problems ?? [];
    this.outcomes = options.outcomes ?? [];
  }
}

/** Tells whether a value is a {@link MessagingError}, optionally of one code. */
export function isMessagingError(value: unknown, code?: MessagingErrorCode): value is MessagingError {
  try {
    return value instanceof MessagingError && (code === undefined || value.code === code);
  } catch {
    // A revoked proxy is an instance of nothing, and says so by throwing.
    return false;
  }
}
