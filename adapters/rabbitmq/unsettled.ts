import type { Channel, Message } from "amqplib";

/**
 * The deliveries of one channel that are not settled yet, by delivery tag. Acknowledgements of neighbours are written as
 * one frame.
 */
export class Unsettled<Owner> {
  readonly #channel: Pick<Channel, "ack" | "nack">;
  /** In the order of delivery, which is ascending. */
  readonly #owners = new Map<number, Owner>();

  constructor(channel: Pick<Channel, "ack" | "nack">) {
    this.#channel = channel;
  }

  get size(): number {
    return this.#owners.size;
  }

  /** What is unsettled, in the order of delivery. */
  [Symbol.iterator](): IterableIterator<[number, Owner]> {
    return this.#owners[Symbol.iterator]();
  }

  add(tag: number, owner: Owner): void {
    this.#owners.set(tag, owner);
  }

  /** Takes a delivery out, to be written with {@link write}; undefined if it is settled already. */
  take(tag: number): Owner | undefined {
    const owner = this.#owners.get(tag);
    if (owner !== undefined) this.#owners.delete(tag);
    return owner;
  }

  /** Writes settlements of deliveries that were taken out before. What is rejected the queue dead-letters, or drops. */
  write(acks: number[], requeues: readonly number[], rejects: readonly number[] = []): void {
    // Before the acknowledgements: one frame for all up to a tag must not find a requeued delivery below it.
    for (const tag of requeues) this.#channel.nack(handle(tag), false, true);
    for (const tag of rejects) this.#channel.nack(handle(tag), false, false);
    acks.sort((a, b) => a - b);
    const { value: lowest = Number.POSITIVE_INFINITY } = this.#owners.keys().next();
    // The tags below the lowest one still unsettled: one frame settles them all.
    let below = 0;
    while (below < acks.length && (acks[below] as number) < lowest) below++;
    if (below > 0) this.#channel.ack(handle(acks[below - 1] as number), below > 1);
    for (let index = below; index < acks.length; index++) this.#channel.ack(handle(acks[index] as number), false);
  }
}

/** amqplib reads nothing but the tag. */
function handle(deliveryTag: number): Message {
  return { fields: { deliveryTag } } as Message;
}
