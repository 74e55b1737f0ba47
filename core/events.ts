import type { MessagingError } from "./errors.ts";

/** Why a message was dead-lettered. */
export type DeadLetterReason =
  /** The handler failed `attempts` times. */
  | "attempts"
  /** It did not decode, or the schema refused it. */
  | "invalid"
  /** The handler returned `deadLetter()`. */
  | "rejected"
  /** Consumers crashed while they handled it, the last of them while it handled nothing else. */
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
      /** Somebody works on messages by hand; see the pattern that tells it. */
      readonly type: "audit";
      /** What is done, as in `replay`. */
      readonly action: string;
      /** Told before the first message is touched, and again with what became of it. */
      readonly phase: "begun" | "ended";
      /** Names the run over both phases, and over a resumption after a crash. */
      readonly run: string;
      /** Where the messages stand: `orders`, `order.placed..billing`. */
      readonly source: string;
      /** Who does it, as far as it was told. */
      readonly by: string | undefined;
      /** ISO time. */
      readonly at: string;
      /** What was asked for, in the words of whoever asked. */
      readonly filter: string;
      /** How many messages are selected; at the end, how many it was done to. */
      readonly count: number;
      /** At the end: why it did not go through to its end, if it did not. */
      readonly stopped?: string;
    }
  | {
      /**
       * Nothing takes the dead letter of a message for now. The message stays unsettled on the broker and is tried again at
       * long intervals; see `ConsumerStatus.parked`.
       */
      readonly type: "parked";
      readonly source: string;
      readonly id: string;
      readonly reason: DeadLetterReason;
      readonly error: MessagingError;
    }
  | {
      /**
       * A copy (to retry or dead letters) was refused or could not be confirmed; the original is still on the
       * broker, and another way is tried, or the same again.
       */
      readonly type: "copy-failed";
      readonly source: string;
      readonly id: string;
      readonly error: MessagingError;
    };
