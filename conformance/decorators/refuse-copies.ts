import type { Adapter, OutgoingMessage } from "../../core/adapter.ts";
import type { Address } from "../../core/address.ts";
import { MessagingError, type MessagingErrorCode } from "../../core/errors.ts";
import { HEADER } from "../../core/system-headers.ts";
import { delegate } from "./delegate.ts";

/** The code with which a message is refused; undefined to let it pass. */
export type Refusal = (to: Address, message: OutgoingMessage) => MessagingErrorCode | undefined;

/** An adapter that refuses copies permanently, as a broker without space or rights for them. */
export interface RefusedCopies<Native> {
  readonly adapter: Adapter<Native>;
  /** The number of refused messages. */
  refused(): number;
  /** Lets everything pass from now on. */
  allow(): void;
}

export function refuseCopies<Native>(inner: Adapter<Native>, refusal: Refusal): RefusedCopies<Native> {
  let refused = 0;
  let allowed = false;
  const adapter = delegate(inner, {
    send(to, batch, report) {
      const passing: { readonly message: OutgoingMessage; readonly index: number }[] = [];
      for (const [index, message] of batch.entries()) {
        const code = allowed ? undefined : refusal(to, message);
        if (code === undefined) passing.push({ message, index });
        else {
          refused++;
          report(index, {
            status: "rejected",
            error: new MessagingError(code, "the conformance suite refuses a copy"),
          });
        }
      }
      if (passing.length === 0) return;
      inner.send(
        to,
        passing.map(({ message }) => message),
        (index, result) => report(passing[index]?.index ?? -1, result),
      );
    },
  });
  return {
    adapter,
    refused: () => refused,
    allow() {
      allowed = true;
    },
  };
}

/** Whether a message is the copy of a delayed retry. */
export function isRetry(to: Address, { headers }: OutgoingMessage): boolean {
  return (to.kind === "queue" || to.kind === "subscription") && headers[HEADER.attempts] !== undefined;
}
