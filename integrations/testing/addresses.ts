import type { Topology } from "../../core/adapter.ts";
import type { Address, TopicAddress, WorkAddress } from "../../core/address.ts";

type Rename = <Kind extends Address>(address: Kind) => Kind;

/** Adds a prefix to the names of addresses. */
export function renaming(prefix: string): Rename {
  if (prefix === "") return (address) => address;
  const rename = (address: Address): Address => {
    switch (address.kind) {
      case "queue":
      case "topic":
        return { ...address, name: prefix + address.name };
      case "subscription":
        return { ...address, topic: prefix + address.topic };
      default:
        return { ...address, of: rename(address.of) as WorkAddress };
    }
  };
  return rename as Rename;
}

/** Renames the addresses of a topology. */
export function renamedTopology(topology: Topology, rename: Rename): Topology {
  const renamed = <Declared extends { readonly address: Address }>(declared: Declared): Declared => ({
    ...declared,
    address: rename(declared.address),
  });
  return {
    mode: topology.mode,
    queues: topology.queues.map(renamed),
    topics: topology.topics.map(renamed),
    subscriptions: topology.subscriptions.map(renamed),
  };
}

/** The queue or subscription that an address belongs to. */
export function workOf(address: Exclude<Address, TopicAddress>): WorkAddress {
  return address.kind === "dead-letters" || address.kind === "quarantine" ? address.of : address;
}
