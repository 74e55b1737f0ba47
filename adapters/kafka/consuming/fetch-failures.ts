import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { Cursor } from "./cursor.ts";
import type { FetcherHost, FetcherParts } from "./fetcher-parts.ts";
import { goneNotice, refusedError, unreachableError } from "./stalls.ts";

/** The first failures of a partition are nobody's business: leaders move, brokers restart. */
const TOLD_FROM = 3;
const TOLD_EVERY_MS = 30_000;
/** Nor those of one that was never read yet: of a topic that was just made the leaders take their time to lead. */
const NEW_FOR_MS = 10_000;
/** So many answers in a row must say that a log is shorter than it was: starting over does everything again. */
const CERTAIN_AFTER = 5;

/** What is done where a partition cannot be read: wait, ask for its leader again, and tell if it lasts. */
export class FetchFailures {
  readonly #parts: Pick<FetcherParts, "clock" | "random" | "retry">;
  readonly #host: Pick<FetcherHost, "stalled" | "notice" | "vanished">;
  /** The topics of which it was told that the cluster does not know them. */
  readonly #gone = new Set<string>();

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
    const cause = refusedError(error, partition, partition.ledger.position);
    this.failed(cursor, cause, unauthorized, `${error} ${partition.topic}`);
    if (error !== "UNKNOWN_TOPIC_OR_PARTITION" || cursor.failures < TOLD_FROM || this.#gone.has(partition.topic))
      return;
    this.#gone.add(partition.topic);
    this.#host.notice(goneNotice(partition));
  }

  /** It was read, or its position was found out. */
  over(cursor: Cursor): void {
    cursor.succeeded(this.#parts.clock.monotonic());
    this.#gone.delete(cursor.partition.topic);
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
    const cause = refusedError("OFFSET_OUT_OF_RANGE", partition, partition.ledger.position);
    this.failed(cursor, cause, false, `beyond ${partition.topic}`);
    return false;
  }

  /** By no answer. */
  unanswered(cursors: readonly Cursor[], error: unknown): void {
    const cause = asError(error);
    for (const cursor of cursors) {
      const isTold = cause.code === "unauthorized";
      this.failed(cursor, unreachableError(cause, cursor.partition), isTold, `unanswered ${cause.code}`);
    }
  }

  /** `kind`: what other partitions may fail by as well, and is told once for all. */
  failed(cursor: Cursor, cause: MessagingError, atOnce: boolean, kind?: string): void {
    const { clock, random, retry } = this.#parts;
    const now = clock.monotonic();
    cursor.failures++;
    cursor.throttled = false;
    cursor.leader = undefined;
    // The next leader has to say by itself that the position is not in its log of that very topic.
    cursor.placing = undefined;
    cursor.notBefore = now + backoffMs(cursor.failures, retry, random);
    const isNew = !cursor.partition.ledger.begun && now - cursor.since < NEW_FOR_MS;
    if (!atOnce && (isNew || cursor.failures < TOLD_FROM)) return;
    if (now - cursor.toldAt < TOLD_EVERY_MS) return;
    cursor.toldAt = now;
    this.#host.stalled(cause, kind);
  }
}

function asError(error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", "the client failed; see the cause", { cause: error });
}
