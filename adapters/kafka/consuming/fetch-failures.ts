import { backoffMs } from "../../../core/backoff.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { Cursor } from "./cursor.ts";
import type { FetcherHost, FetcherParts } from "./fetcher-parts.ts";
import { goneNotice, refusedError, unreachableError } from "./stalls.ts";

/** The first failures of a partition are nobody's business: leaders move, brokers restart. */
const TOLD_FROM = 3;
const TOLD_EVERY_MS = 30_000;
/** So many answers in a row must say that a log is shorter than it was: starting over does everything again. */
const CERTAIN_AFTER = 5;

/** What is done where a partition cannot be read: wait, ask for its leader again, and tell if it lasts. */
export class FetchFailures {
  readonly #parts: Pick<FetcherParts, "clock" | "random" | "retry">;
  readonly #host: Pick<FetcherHost, "stalled" | "notice" | "vanished">;

  constructor(
    parts: Pick<FetcherParts, "clock" | "random" | "retry">,
    host: Pick<FetcherHost, "stalled" | "notice" | "vanished">,
  ) {
    this.#parts = parts;
    this.#host = host;
  }

  /** By an answer with an error. */
  refused(cursor: Cursor, error: string): void {
    const { partition } = cursor;
    cursor.heardAt = this.#parts.clock.monotonic();
    if (error === "OFFSET_OUT_OF_RANGE" && cursor.placing === undefined) {
      cursor.placing = partition.standing === undefined ? "uncommitted" : "out-of-range";
      return;
    }
    const unauthorized = error === "TOPIC_AUTHORIZATION_FAILED";
    this.failed(cursor, refusedError(error, partition, partition.ledger.position), unauthorized);
    if (error !== "UNKNOWN_TOPIC_OR_PARTITION" || cursor.failures < TOLD_FROM || cursor.goneTold) return;
    cursor.goneTold = true;
    this.#host.notice(goneNotice(partition));
  }

  /** The cluster does not know the partition. */
  unknown(cursor: Cursor): void {
    this.#host.vanished(cursor.partition);
    this.refused(cursor, "UNKNOWN_TOPIC_OR_PARTITION");
  }

  /** The log ends before the position. True once it is certain: a broker that is behind may say so, too. */
  beyond(cursor: Cursor): boolean {
    if (++cursor.beyond >= CERTAIN_AFTER) return true;
    const { partition } = cursor;
    this.failed(cursor, refusedError("OFFSET_OUT_OF_RANGE", partition, partition.ledger.position), false);
    return false;
  }

  /** By no answer. */
  unanswered(cursors: readonly Cursor[], error: unknown): void {
    const cause = asError(error);
    for (const cursor of cursors) {
      this.failed(cursor, unreachableError(cause, cursor.partition), cause.code === "unauthorized");
    }
  }

  failed(cursor: Cursor, cause: MessagingError, atOnce: boolean): void {
    const { clock, random, retry } = this.#parts;
    const now = clock.monotonic();
    cursor.failures++;
    cursor.throttled = false;
    cursor.leader = undefined;
    // The next leader has to say by itself that the position is not in its log of that very topic.
    cursor.placing = undefined;
    cursor.notBefore = now + backoffMs(cursor.failures, retry, random);
    if ((!atOnce && cursor.failures < TOLD_FROM) || now - cursor.toldAt < TOLD_EVERY_MS) return;
    cursor.toldAt = now;
    this.#host.stalled(cause);
  }
}

function asError(error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", "the client failed; see the cause", { cause: error });
}
