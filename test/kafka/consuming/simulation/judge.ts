import { decodeProgress } from "../../../../adapters/kafka/consuming/progress.ts";
import type { CommittedOffset, PartitionOffset } from "../../../../adapters/kafka/port.ts";
import { lifeOf, recordsFrom, type SimulatedLog } from "./simulated-log.ts";

/** What is known to be true of a record, whatever the consumers believe. */
export class Fate {
  /** Somebody's handler ended well. */
  acked = false;
  /** A consumer was told that it is settled. */
  settled = false;
  delivered = false;
  deleted = false;
  poisonous = false;
  /** How many consumers died, or lost the partition, with it in their hands. */
  crashes = 0;
}

type Commit = Pick<CommittedOffset, "offset" | "metadata">;

/** Remembers everything, and says what must never have happened. Records are those of one topic among all of its name. */
export class Judge {
  readonly violations: string[] = [];
  readonly #fates = new Map<string, Map<number, Fate>>();
  /** By partition: how often it changed hands with something left in doubt. */
  readonly #disorderly = new Map<string, number>();

  violate(text: string): void {
    if (this.violations.length < 10) this.violations.push(text);
  }

  fate(key: string, offset: number): Fate {
    const fates = this.#fates.get(key) ?? new Map<number, Fate>();
    this.#fates.set(key, fates);
    const fate = fates.get(offset) ?? new Fate();
    fates.set(offset, fate);
    return fate;
  }

  /** Somebody begins where the last commit was. */
  takenOver(log: SimulatedLog, committed: Commit): void {
    const { progress, of } = decodeProgress(committed);
    if (progress.watermark <= progress.offset || of === undefined) return;
    const life = lifeOf(log, of.id);
    this.#disorderly.set(life, (this.#disorderly.get(life) ?? 0) + 1);
  }

  delivered(key: string, offset: number, crashes: number): void {
    const fate = this.fate(key, offset);
    const where = `${key}@${offset}`;
    if (fate.settled) this.violate(`${where} was delivered again though it was settled`);
    if (crashes < fate.crashes) this.violate(`${where} had ${fate.crashes} crashes and came with ${crashes}`);
    const most = this.#disorderly.get(key) ?? 0;
    if (crashes > most) this.violate(`${where} can have had ${most} crashes and came with ${crashes}`);
  }

  /** What is committed claims to be finished must have been. */
  committed(
    commit: PartitionOffset & { readonly metadata: string },
    stored: Commit | undefined,
    log: SimulatedLog,
  ): void {
    const { progress, of } = decodeProgress(commit);
    const id = of?.id ?? "";
    const key = lifeOf(commit, id);
    if (of === undefined) this.violate(`${key} was committed without its topic`);
    const bytes = Buffer.byteLength(commit.metadata);
    if (bytes > 4096) this.violate(`the metadata of ${key} took ${bytes} bytes`);
    const before = stored === undefined || decodeProgress(stored).of?.id !== id ? -1 : stored.offset;
    if (commit.offset < before) this.violate(`${key} went back from ${before} to ${commit.offset}`);
    // What was committed before was looked at then.
    for (const { offset } of recordsFrom(log.recordsOf(id), before)) {
      if (offset >= progress.finished.end && offset >= commit.offset) break;
      const claimed = offset < commit.offset || progress.finished.has(offset);
      const fate = this.fate(key, offset);
      if (claimed && !fate.acked && !fate.deleted) this.violate(`${key}@${offset} was never handled, and committed`);
    }
  }
}
