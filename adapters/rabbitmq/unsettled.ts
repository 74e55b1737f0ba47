import type { Channel, Message } from "amqplib";

/** The unsettled deliveries of one channel, by delivery tag. Acks of adjacent tags are written as one frame. */
export class Unsettled<Owner> {
  readonly #channel: Pick<Channel, "ack" | "nack">;
  /** By ascending delivery tag. */
  readonly #owners = new Map<number, Owner>();

  constructor(channel: Pick<Channel, "ack" | "nack">) {
    this.#channel = channel;
  }

  get size(): number {
    return this.#owners.size;
  }

  /** The unsettled deliveries, in the order of delivery. */
  [Symbol.iterator](): IterableIterator<[number, Owner]> {
    return this.#owners[Symbol.iterator]();
  }

  add(tag: number, owner: Owner): void {
    this.#owners.set(tag, owner);
  }

  /** Removes a delivery, so that {@link write} can settle it; undefined if it is settled already. */
  take(tag: number): Owner | undefined {
    const owner = this.#owners.get(tag);
    if (owner !== undefined) this.#owners.delete(tag);
    return owner;
  }

  /** Writes settlements of deliveries that {@link take} removed. The queue dead-letters or drops rejected messages. */
  write(acks: number[], requeues: readonly number[], rejects: readonly number[] = []): void {
    // Requeues go first: an ack of all tags up to one must not cover a requeued delivery.
    for (const tag of requeues) this.#channel.nack(handle(tag), false, true);
    for (const tag of rejects) this.#channel.nack(handle(tag), false, false);
    acks.sort((a, b) => a - b);
    const { value: lowest = Number.POSITIVE_INFINITY } = this.#owners.keys().next();
    // One frame acks all tags below the lowest unsettled one.
    let below = 0;
    while (below < acks.length && (acks[below] as number) < lowest) below++;
    if (below > 0) this.#channel.ack(handle(acks[below - 1] as number), below > 1);
    for (let index = below; index < acks.length; index++) this.#channel.ack(handle(acks[index] as number), false);
  }
}

/** amqplib reads only the tag. */
function handle(deliveryTag: number): Message {
  return { fields: { deliveryTag } } as Message;
}
