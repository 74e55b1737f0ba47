import type { Source } from "../../core/address.ts";
import { DelayForwarder, type ForwarderHost } from "./delays/index.ts";
import { type DelayableAddress, delaysGroup, delaysTopic, topicName } from "./names.ts";

/** Whose delayed messages come out where a source is read from. */
function delayedFor(source: Source): readonly DelayableAddress[] {
  switch (source.kind) {
    case "queue":
      return [source];
    case "subscription":
      return [{ kind: "topic", name: source.topic }, source];
    case "dead-letters":
      return [];
  }
}

interface Shared {
  readonly forwarder: DelayForwarder;
  count: number;
}

/** Those who send delayed messages on: one for each destination that this process receives from. */
export class Forwarders {
  readonly #host: ForwarderHost;
  readonly #shared = new Map<string, Shared>();

  constructor(host: ForwarderHost) {
    this.#host = host;
  }

  /** Sends on what is delayed for a source, until the function that it returns is called. */
  run(source: Source): () => Promise<void> {
    const names = delayedFor(source).map((address) => this.#begin(address));
    return async () => {
      await Promise.all(names.splice(0).map((name) => this.#end(name)));
    };
  }

  #begin(address: DelayableAddress): string {
    const delays = delaysTopic(address);
    const shared = this.#shared.get(delays);
    if (shared !== undefined) {
      shared.count++;
      return delays;
    }
    const destination = { topic: topicName(address), delays, group: delaysGroup(address) };
    this.#shared.set(delays, { forwarder: new DelayForwarder(this.#host, destination), count: 1 });
    return delays;
  }

  async #end(delays: string): Promise<void> {
    const shared = this.#shared.get(delays);
    if (shared === undefined || --shared.count > 0) return;
    this.#shared.delete(delays);
    await shared.forwarder.close();
  }
}
