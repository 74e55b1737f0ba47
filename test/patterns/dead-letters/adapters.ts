import { type Adapter, addressName, type OutgoingMessage } from "../../../core/index.ts";

/** A message that an adapter was given to send. */
export interface RecordedSend {
  /** Where to, as people read it. */
  readonly name: string;
  readonly message: OutgoingMessage;
}

/** An adapter that passes every call on to another, except what is given here instead. */
export function around(inner: Adapter, instead: Partial<Adapter>): Adapter {
  const { browse, rewind } = inner;
  return {
    name: inner.name,
    capabilities: inner.capabilities,
    sendLimits: inner.sendLimits,
    physicalName: (address) => inner.physicalName(address),
    open: (signals) => inner.open(signals),
    declare: (topology) => inner.declare(topology),
    send: (to, batch, report) => inner.send(to, batch, report),
    receive: (from, options, sink) => inner.receive(from, options, sink),
    depth: (of) => inner.depth(of),
    close: () => inner.close(),
    ...(browse === undefined ? {} : { browse: browse.bind(inner) }),
    ...(rewind === undefined ? {} : { rewind: rewind.bind(inner) }),
    ...instead,
  };
}

/** Notes what was confirmed. */
export function recorded(inner: Adapter): { readonly adapter: Adapter; readonly sends: readonly RecordedSend[] } {
  const sends: RecordedSend[] = [];
  const adapter = around(inner, {
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
  const { browse: _, ...rest } = around(inner, {});
  return rest;
}
