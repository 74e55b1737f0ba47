import type { Receiver } from "../../../core/adapter.ts";
import type { Clock, Random } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { ConsumerOptions, RecordSink } from "../consuming/contract.ts";
import type { Producer } from "../producing/contract.ts";

/** What a forwarder works with. */
export interface ForwarderHost {
  readonly producer: Producer;
  /** Of the machine: `now` decides whether a message is due. */
  readonly clock: Clock;
  readonly random: Pick<Random, "fraction">;
  /** Begins to read. Rejects if the first try to subscribe fails. */
  openConsumer(options: ConsumerOptions, sink: RecordSink): Promise<Receiver>;
  /**
   * Something that people should know: messages that are due and cannot be sent on, once that lasted 10 s or at once if
   * they were refused; each trouble every 30 s at most.
   */
  notice(error: MessagingError): void;
}

/** Whose delays these are. */
export interface DelayedDestination {
  /** Where messages come out. */
  readonly topic: string;
  /** Where they wait: a topic with a partition per level. */
  readonly delays: string;
  readonly group: string;
}
