import type { Timer } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { TopicMetadata } from "../port.ts";
import type { ProducerSettings } from "./settings.ts";

/** Whom a directory tells what it learns. */
export interface DirectoryOwner {
  learned(topic: TopicMetadata): void;
  up(): void;
  down(cause: MessagingError): void;
}

/**
 * Asks the cluster where topics are led: when somebody wants to know, and from time to time. One question at a time; as
 * long as nobody answers it asks on, and so finds out when the cluster is back.
 */
export class Directory {
  readonly #settings: ProducerSettings;
  readonly #owner: DirectoryOwner;
  readonly #known = new Set<string>();
  readonly #wanted = new Set<string>();
  #timer: Timer | undefined;
  #isAsking = false;
  #isWanted = false;
  #failures = 0;
  #isDown = false;
  #isClosed = false;

  constructor(settings: ProducerSettings, owner: DirectoryOwner) {
    this.#settings = settings;
    this.#owner = owner;
  }

  get isDown(): boolean {
    return this.#isDown;
  }

  /** Begins to ask from time to time. */
  open(): void {
    this.#askIn(this.#settings.refreshMs);
  }

  /** Asks about a topic, or about none: whether anybody answers. */
  want(topic?: string): void {
    if (topic !== undefined) {
      this.#known.add(topic);
      this.#wanted.add(topic);
    }
    this.#isWanted = true;
    // While nobody answers, there is a pause between the questions, whoever asks them.
    if (this.#failures === 0) void this.#ask();
  }

  close(): void {
    this.#isClosed = true;
    if (this.#timer !== undefined) this.#settings.clock.cancel(this.#timer);
  }

  async #ask(): Promise<void> {
    if (this.#isAsking || this.#isClosed) return;
    this.#isAsking = true;
    const { connection, refreshMs, reconnect, random } = this.#settings;
    const asked = this.#failures === 0 && this.#wanted.size > 0 ? this.#wanted : this.#known;
    const asking = connection.metadata([...asked]);
    this.#wanted.clear();
    this.#isWanted = false;
    try {
      this.#answered((await asking).topics);
    } catch (error) {
      this.#failed(error);
    }
    this.#isAsking = false;
    if (this.#isClosed) return;
    if (this.#failures === 0 ? this.#isWanted : !this.#isDown) void this.#ask();
    else this.#askIn(this.#failures === 0 ? refreshMs : backoffMs(this.#failures, reconnect, random));
  }

  #answered(topics: readonly TopicMetadata[]): void {
    if (this.#isClosed) return;
    this.#failures = 0;
    const wasDown = this.#isDown;
    this.#isDown = false;
    for (const topic of topics) this.#owner.learned(topic);
    if (wasDown) this.#owner.up();
  }

  #failed(error: unknown): void {
    this.#failures++;
    // One socket that broke unseen is no news; that there is no other is.
    if (this.#isClosed || this.#isDown || this.#failures < 2) return;
    this.#isDown = true;
    this.#owner.down(
      isMessagingError(error) ? error : new MessagingError("unreachable", "Kafka gave no answer", { cause: error }),
    );
  }

  #askIn(ms: number): void {
    const { clock } = this.#settings;
    if (this.#timer !== undefined) clock.cancel(this.#timer);
    this.#timer = clock.schedule(() => void this.#ask(), ms);
  }
}
