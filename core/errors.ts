import type { StandardSchemaV1 } from "@standard-schema/spec";

/**
 * The kinds of errors of anybroker. The set is closed: a `switch` over it is exhaustive.
 *
 * - `unsupported`: the broker cannot do this; reported at start where possible.
 * - `invalid`: a body, name or option is wrong; nothing was sent.
 * - `too-large`: the message is over a size or header limit; it is not stored.
 * - `unroutable`: no subscription takes the event; it is not stored.
 * - `not-found`: the destination does not exist on the broker.
 * - `conflict`: the broker has something of that name with other properties, or two destinations collide.
 * - `unconfirmed`: the broker did not confirm the message in time; it may or may not be stored.
 * - `refused`: the broker refused the message, and it is not stored; or the handler returned `deadLetter()`.
 * - `overloaded`: the publish buffer is full, and nothing was sent; or a limit of the broker is reached.
 * - `timeout`: the message was not sent by its deadline, a handler overran its deadline, or a request had no answer.
 * - `aborted`: the caller aborted its signal before the message was handed to the broker; nothing was sent.
 * - `closed`: the broker object is not started, or is stopping.
 * - `unreachable`: there is no connection to the broker.
 * - `unauthorized`: the credentials are wrong, or a right is missing.
 * - `partly-failed`: some messages of a `sendMany` or `publishMany` failed; `outcomes` says which.
 * - `start-failed`: start found problems; `problems` lists them.
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
  | "aborted"
  | "closed"
  | "unreachable"
  | "unauthorized"
  | "partly-failed"
  | "start-failed";

/** How one message of a `sendMany` or `publishMany` ended. */
export type SendOutcome =
  | { readonly status: "confirmed"; readonly id: string }
  | { readonly status: "failed"; readonly error: MessagingError };

/** One problem of a body. It never quotes the body. */
export interface BodyIssue {
  /** Where, from the body's root. `[key]` replaces a key that may be data. */
  readonly path: readonly (string | number)[];
  /** The code of the schema's library, such as `invalid_type`; undefined where it has none. */
  readonly code: string | undefined;
  /** The message of the schema; undefined where it may quote a value of the body. */
  readonly message: string | undefined;
}

/** The options of a {@link MessagingError}. */
export interface MessagingErrorOptions {
  /** The error of the client library, or another cause. */
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
 * The only error class of anybroker. `message` says what happened, where, and what to do next; it never holds a body, a
 * credential or a token. `cause` is the client library's own error, or one with only the part of its text that may be
 * shown.
 */
export class MessagingError extends Error {
  override readonly name = "MessagingError";
  readonly code: MessagingErrorCode;
  /** For `start-failed`: every problem found; otherwise empty. */
  readonly problems: readonly MessagingError[];
  /** For `partly-failed`: one outcome per message, in the order given; otherwise empty. */
  readonly outcomes: readonly SendOutcome[];
  /** For a body that its schema or codec refuses: its problems, fit for the sender to see; otherwise empty. */
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

  /** The issues as the schema returned them. They may quote the body, so loggers do not see this property. */
  get rawIssues(): readonly StandardSchemaV1.Issue[] {
    return this.#rawIssues;
  }
}

/** Whether a value is a {@link MessagingError}, optionally of one code. */
export function isMessagingError(value: unknown, code?: MessagingErrorCode): value is MessagingError {
  try {
    return value instanceof MessagingError && (code === undefined || value.code === code);
  } catch {
    // `instanceof` throws for a revoked proxy.
    return false;
  }
}

/** The advice in errors about something that does not exist on the broker. */
export const DECLARE_IT = 'create it with declare: "create" at start, or with "anybroker topology create"';

/** The advice in errors about something that exists without a setting that `create` sets. */
export const SET_IT = 'anybroker sets it with declare: "create" at start, or with "anybroker topology create"';
