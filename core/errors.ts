import type { StandardSchemaV1 } from "@standard-schema/spec";

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

/** One thing that is wrong with a body. Nothing of it quotes the body. */
export interface BodyIssue {
  /** Where, from the body's root. `[key]` stands for a key that may be data. */
  readonly path: readonly (string | number)[];
  /** What the schema's library calls it, as `invalid_type`; undefined where it does not. */
  readonly code: string | undefined;
  /** What the schema says; undefined where it may quote a value of the body. */
  readonly message: string | undefined;
}

/** What a {@link MessagingError} may carry besides code and message. */
export interface MessagingErrorOptions {
  /** The error of the client library, or whatever else led here. */
  readonly cause?: unknown;
  /** For `start-failed`: every problem found. */
  readonly problems?: readonly MessagingError[];
  /** For `partly-failed`: one outcome per message, in the order given. */
  readonly outcomes?: readonly SendOutcome[];
  /** For `invalid` bodies: what is wrong with it. */
  readonly issues?: readonly BodyIssue[];
  /** For `invalid` bodies: what the schema returned. */
  readonly rawIssues?: readonly StandardSchemaV1.Issue[];
}

/**
 * The only error class of anybroker. `message` says what happened, where, and what to do next; it never holds a body,
 * a credential or a token. `cause` keeps the client library's own error, or,
 * where that may hold what a server said, one with as much of its text as may be shown.
 */
export class MessagingError extends Error {
  override readonly name = "MessagingError";
  readonly code: MessagingErrorCode;
  /** For `start-failed`: every problem found; otherwise empty. */
  readonly problems: readonly MessagingError[];
  /** For `partly-failed`: one outcome per message, in the order given; otherwise empty. */
  readonly outcomes: readonly SendOutcome[];
  /** For a body that its schema or its codec refuses: what is wrong with it, to be shown to whoever sent it; otherwise empty. */
  readonly issues: readonly BodyIssue[];
  readonly #rawIssues: readonly StandardSchemaV1.Issue[];

  constructor(code: MessagingErrorCode, message: string, options: MessagingErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.problems = options.problems ?? [];
    this.outcomes = options.outcomes ?? [];
    this.issues = options.issues ?? [];
    this.#rawIssues = options.rawIssues ?? [];
  }

  /** The issues as the schema returned them: they may quote the body, and are not enumerable, so that no logger prints them. */
  get rawIssues(): readonly StandardSchemaV1.Issue[] {
    return this.#rawIssues;
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

/** What to do where something does not exist on the broker: completes "…; ". */
export const DECLARE_IT = 'create it with declare: "create" at start, or with "anybroker topology create"';
