import { delegate } from "../../../conformance/decorators/delegate.ts";
import type { Adapter, OutgoingMessage } from "../../../core/adapter.ts";
import { addressName } from "../../../core/address.ts";

/** A message that an adapter was given to send. */
export interface RecordedSend {
  /** Where to, as people read it. */
  readonly name: string;
  readonly message: OutgoingMessage;
}

/** Notes what was confirmed. */
export function recorded(inner: Adapter): { readonly adapter: Adapter; readonly sends: readonly RecordedSend[] } {
  const sends: RecordedSend[] = [];
  const adapter = delegate(inner, {
    send: (to, batch, report) =>
      inner.send(to, batch, (index, result) => {
        const message = batch[index];
        if (result.status === "confirmed" && message !== undefined) sends.push({ name: addressName(to), message });
        report(index, result);
      }),
  });
  return { adapter, sends };
}

/** An adapter whose dead letters can be looked at only by taking them. */
export function withoutBrowse(inner: Adapter): Adapter {
  const { browse: _, ...rest } = delegate(inner);
  return rest;
}
