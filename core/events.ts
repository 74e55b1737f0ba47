import type { MessagingError } from "./errors.ts";

/** Why a message was dead-lettered. */
export type DeadLetterReason =
  /** The handler failed `attempts` times. */
  | "attempts"
  /** It did not decode, or the schema refused it. */
  | "invalid"
  /** The handler returned `deadLetter()`. */
  | "rejected"
  /** Consumers crashed while they handled it and nothing else. */
  | "crashed"
  /** It was older than its time to live. */
  | "expired";

/** An event for `BrokerOptions.onEvent`. It never holds a body, a header or a credential. */
export type BrokerEvent =
  | { readonly type: "up" }
  | { readonly type: "down"; readonly error: MessagingError }
  | { readonly type: "blocked"; readonly reason: string }
  | { readonly type: "unblocked" }
  | { readonly type: "notice"; readonly error: MessagingError }
  | {
      /** A consumer cannot take messages for now. It keeps trying. */
      readonly type: "stalled";
      readonly source: string;
      readonly error: MessagingError;
    }
  /** A consumer that was stalled takes messages again. */
  | { readonly type: "flowing"; readonly source: string }
  | {
      /** An attempt failed; the message will be tried again. */
      readonly type: "retried";
      readonly source: string;
      readonly id: string;
      readonly attempt: number;
      readonly delayMs: number;
      readonly error: unknown;
    }
  | {
      /** The broker has confirmed a copy in the dead letters. */
      readonly type: "dead-lettered";
      readonly source: string;
      readonly id: string;
      readonly reason: DeadLetterReason;
      readonly error: unknown;
    }
  | {
      /** A person works on messages, as with the dead-letters pattern. */
      readonly type: "audit";
      /** The action, such as `replay`. */
      readonly action: string;
      /** `begun` comes before the first message is touched, `ended` with the result. */
      readonly phase: "begun" | "ended";
      /** The id of the run: the same in both phases, and after a crash and a resumption. */
      readonly run: string;
      /** Where the messages are: `orders`, `order.placed..billing`. */
      readonly source: string;
      /** Who does it, if given. */
      readonly by: string | undefined;
      /** ISO time. */
      readonly at: string;
      /** The filter, as it was given. */
      readonly filter: string;
      /** How many messages are selected; at the end, how many were processed. */
      readonly count: number;
      /** At the end: why the run stopped early, if it did. */
      readonly stopped?: string;
    }
  | {
      /** Nothing takes the dead letter of a message for now. It stays unsettled on the broker; see `ConsumerStatus.parked`. */
      readonly type: "parked";
      readonly source: string;
      readonly id: string;
      readonly reason: DeadLetterReason;
      readonly error: MessagingError;
    }
  | {
      /**
       * A copy, for a retry or the dead letters, was refused or not confirmed. The original is still on the broker, and the
       * engine tries again or in another way.
       */
      readonly type: "copy-failed";
      readonly source: string;
      readonly id: string;
      readonly error: MessagingError;
    };
