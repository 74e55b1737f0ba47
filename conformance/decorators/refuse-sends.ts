import type { Adapter, SendResult } from "../../core/adapter.ts";
import { type Address, describeAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { delegate } from "./delegate.ts";

/** An adapter that refuses sends to some addresses until `allow`. */
export interface RefusedSends<Native> {
  readonly adapter: Adapter<Native>;
  /** The number of refused messages. */
  refused(): number;
  /** Lets everything pass from now on. */
  allow(): void;
}

/** Refuses alternately as `rejected` and `unknown`: neither counts as a confirm. */
export function refuseSends<Native>(inner: Adapter<Native>, to: (address: Address) => boolean): RefusedSends<Native> {
  let refused = 0;
  let allowed = false;
  const adapter = delegate(inner, {
    send(address, batch, report) {
      if (allowed || !to(address)) return inner.send(address, batch, report);
      for (const index of batch.keys()) report(index, refusal(address, refused++));
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

function refusal(address: Address, turn: number): SendResult {
  const error = new MessagingError("refused", `the conformance suite refuses sends to the ${describeAddress(address)}`);
  return turn % 2 === 0 ? { status: "rejected", error } : { status: "unknown", cause: error };
}
