import type { OutgoingMessage, SendResult } from "../adapter.ts";
import { describeAddress } from "../address.ts";
import type { Receipt } from "../broker.ts";
import { MessagingError } from "../errors.ts";
import type { Deadline, Deadlines, Expiring } from "./deadlines.ts";
import type { Route } from "./publishing.ts";

/** What a pending send tells its publisher, which keeps count. */
export interface SendObserver {
  /** Why there is no connection, where that is known. */
  readonly lost: MessagingError | undefined;
  /** The caller was answered, or gave up, while the message was nowhere but here. */
  abandoned(send: PendingSend): void;
}

/**
 * One accepted message and the caller waiting for it. It is answered exactly once: by the broker's result or by its
 * deadline, whichever is first, and the answer says what is known: never handed over (`timeout`), or handed over without
 * an answer (`unconfirmed`).
 */
export class PendingSend implements Expiring {
  deadline: Deadline | undefined = undefined;
  readonly route: Route;
  readonly message: OutgoingMessage;
  /** Whether the caller has been answered. */
  answered = false;
  /** Whether it counts against the buffer, rather than waiting for room. */
  admitted = false;
  /** Whether the adapter has it now. */
  inFlight = false;
  readonly #deadlines: Deadlines;
  readonly #observer: SendObserver;
  readonly #resolve: (receipt: Receipt) => void;
  readonly #reject: (error: MessagingError) => void;
  /** Whether the adapter ever had it: from then on, silence means unconfirmed. */
  #handedOver = false;
  /** Whether an earlier try ended without an answer: from then on, not even a refusal says that nothing is stored. */
  #unknown = false;
  #cause: unknown = undefined;

  constructor(
    route: Route,
    message: OutgoingMessage,
    deadlines: Deadlines,
    observer: SendObserver,
    resolve: (receipt: Receipt) => void,
    reject: (error: MessagingError) => void,
  ) {
    this.route = route;
    this.message = message;
    this.#deadlines = deadlines;
    this.#observer = observer;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  handOver(): void {
    this.inFlight = true;
    this.#handedOver = true;
  }

  /** Takes a result of the adapter. Returns whether the message is to be handed over again. */
  take(result: SendResult): boolean {
    this.inFlight = false;
    if (this.answered) return false;
    if (result.status === "unknown") {
      this.#unknown = true;
      this.#cause = result.cause;
      return true;
    }
    this.answered = true;
    this.#deadlines.lift(this);
    if (result.status === "confirmed") this.#resolve({ id: this.message.id });
    else this.#reject(this.#unknown ? this.#refusedAgain(result.error) : result.error);
    return false;
  }

  #refusedAgain(cause: MessagingError): MessagingError {
    const what = `message ${this.message.id} to ${describeAddress(this.route.address)}`;
    return new MessagingError(
      "unconfirmed",
      `${what}: an earlier try went unanswered and a later one was refused (${cause.code}); it may or may not be stored. See the cause, and send it again with the same id once that is mended`,
      { cause },
    );
  }

  expire(): void {
    this.giveUp("its deadline passed", "timeout");
  }

  /** Answers the caller now with what is known. */
  giveUp(why: string, codeIfNeverHandedOver: "timeout" | "closed"): void {
    if (this.answered) return;
    this.answered = true;
    this.#deadlines.lift(this);
    const what = `message ${this.message.id} to ${describeAddress(this.route.address)}`;
    this.#reject(
      this.#handedOver
        ? new MessagingError(
            "unconfirmed",
            `${what}: ${why} before the broker confirmed it; it may or may not be stored. Send it again with the same id, and let the consumer be idempotent`,
            this.#cause === undefined ? {} : { cause: this.#cause },
          )
        : this.#unsent(`${what}: ${why} before it was handed to the broker; it was not sent`, codeIfNeverHandedOver),
    );
    if (!this.inFlight) this.#observer.abandoned(this);
  }

  #unsent(what: string, code: "timeout" | "closed"): MessagingError {
    const { lost } = this.#observer;
    if (lost === undefined) {
      return new MessagingError(code, `${what}. Check the connection in broker.status() and send it again`);
    }
    const text = `${what}, since there is no connection: ${lost.message}. Send it again once there is one`;
    return new MessagingError(code, text, { cause: lost });
  }
}
