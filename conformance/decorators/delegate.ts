import type { Adapter } from "../../core/adapter.ts";

/** An adapter that forwards every call to `inner`, except those in `instead`. */
export function delegate<Native>(inner: Adapter<Native>, instead: Partial<Adapter<Native>> = {}): Adapter<Native> {
  const { browse, identities, list, remove, resolve, rewind, watch } = inner;
  return {
    name: inner.name,
    capabilities: inner.capabilities,
    sendLimits: inner.sendLimits,
    physicalName: (address) => inner.physicalName(address),
    open: (signals) => inner.open(signals),
    declare: (topology) => inner.declare(topology),
    send: (to, batch, report) => inner.send(to, batch, report),
    receive: (from, options, sink) => inner.receive(from, options, sink),
    quarantine: (of) => inner.quarantine(of),
    depth: (of) => inner.depth(of),
    close: () => inner.close(),
    ...(browse === undefined ? {} : { browse: browse.bind(inner) }),
    ...(list === undefined ? {} : { list: list.bind(inner) }),
    ...(identities === undefined ? {} : { identities: identities.bind(inner) }),
    ...(remove === undefined ? {} : { remove: remove.bind(inner) }),
    ...(resolve === undefined ? {} : { resolve: resolve.bind(inner) }),
    ...(rewind === undefined ? {} : { rewind: rewind.bind(inner) }),
    ...(watch === undefined ? {} : { watch: watch.bind(inner) }),
    ...instead,
  };
}
