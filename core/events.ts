import type { MessagingError } from "./errors.ts";

/** Why a message was dead-lettered. */
export type DeadLetterReason =
  /** The handler failed `attempts` times. */
  | "attempts"
  /** It did not decode, or the schema refused it. */
  | "invalid"
  /** The handler returned `deadLetter()`. */
  | "rejected"
  /** The processes that held it died, again and again. */
  | "crashed"
  /** It was older than its time to live. */
  | "expired";

/** What `BrokerOptions.onEvent` is told. Never holds a body, a header or a credential. */
export type BrokerEvent =
  | { readonly type: "up" }
  | { readonly type: "down"; readonly error: MessagingError }
  | { readonly type: "blocked"; readonly reason: string }
  | { readonly type: "unblocked" }
  | { readonly type: "notice"; readonly error: MessagingError }
  | {
      /** A consumer cannot take messages for now; it goes on trying. */
      readonly type: "stalled";
      readonly source: string;
      readonly error: MessagingError;
    }
  /** A consumer that was stalled takes messages again. */
  | { readonly type: "flowing"; readonly source: string }
  | {
      /** A handler failed and the message will be tried again. */
      readonly type: "retried";
      readonly source: string;
      readonly id: string;
      readonly attempt: number;
      readonly delayMs: number;
      readonly error: unknown;
    }
  | {
      /** A confirmed copy stands in the dead letters. */
      readonly type: "dead-lettered";
      readonly source: string;
      readonly id: string;
      readonly reason: DeadLetterReason;
      readonly error: unknown;
    }
  | {
      /** A copy (to retry, suspects or dead letters) could not be confirmed; the original stands and it is tried again. */
      readonly type: "copy-failed";
      readonly source: string;
      readonly id: string;
      readonly error: MessagingError;
    };
