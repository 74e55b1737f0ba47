import type { Timer } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { GroupMember } from "../group/contract.ts";
import type { CommittedOffset, TopicPartition } from "../port.ts";
import type { FetcherParts } from "./fetcher-parts.ts";
import { OwnedPartition, partitionKey } from "./owned-partition.ts";
import { isOurs, isReadable } from "./progress.ts";
import { metadataNotice, refusedError } from "./stalls.ts";

/** What is done with a partition whose progress is known. */
export interface AssignmentsHost {
  begin(partition: OwnedPartition): void;
  /** What several partitions may have in common is of one `kind`. */
  stalled(cause: MessagingError, kind?: string): void;
  notice(error: MessagingError): void;
}

/** One time that a partition became ours. */
interface Assignment extends TopicPartition {
  failures: number;
}

/** How long the member has to take away a partition that a commit said is not ours. */
const AGAIN_AFTER_MS = 2_000;

/** The partitions that the member has, and the way from there to knowing how far each one is. */
export class Assignments {
  readonly #group: string;
  readonly #parts: Pick<FetcherParts, "clock" | "random" | "retry">;
  readonly #host: AssignmentsHost;
  readonly #assigned = new Map<string, Assignment>();
  readonly #timers = new Set<Timer>();
  #member: GroupMember | undefined;
  #closed = false;

  constructor(group: string, parts: Pick<FetcherParts, "clock" | "random" | "retry">, host: AssignmentsHost) {
    this.#group = group;
    this.#parts = parts;
    this.#host = host;
  }

  start(member: GroupMember): void {
    this.#member = member;
    this.#ask([...this.#assigned.values()]);
  }

  add(partitions: readonly TopicPartition[]): void {
    const added = partitions.map(({ topic, partition }): Assignment => ({ topic, partition, failures: 0 }));
    for (const assignment of added) this.#assigned.set(partitionKey(assignment), assignment);
    this.#ask(added);
  }

  remove(partitions: readonly TopicPartition[]): void {
    for (const at of partitions) this.#assigned.delete(partitionKey(at));
  }

  /** Whether any waits for its progress. */
  get failing(): boolean {
    for (const { failures } of this.#assigned.values()) if (failures > 0) return true;
    return false;
  }

  /** Begins with a partition again, unless it is taken away by then. */
  again(at: TopicPartition): void {
    const assignment = this.#assigned.get(partitionKey(at));
    if (assignment !== undefined) this.#askLater(assignment, AGAIN_AFTER_MS);
  }

  close(): void {
    this.#closed = true;
    this.#assigned.clear();
    for (const timer of this.#timers) this.#parts.clock.cancel(timer);
    this.#timers.clear();
  }

  #ask(assignments: readonly Assignment[]): void {
    const wanted = assignments.filter((assignment) => this.#stands(assignment));
    if (this.#member === undefined || wanted.length === 0) return;
    this.#member.committed(wanted.map(({ topic, partition }) => ({ topic, partition }))).then(
      (committed) => this.#answer(wanted, committed),
      (error: unknown) => {
        if (this.#closed) return;
        this.#host.stalled(asError(error, this.#group));
        for (const assignment of wanted) this.#retry(assignment);
      },
    );
  }

  #stands(assignment: Assignment): boolean {
    return this.#assigned.get(partitionKey(assignment)) === assignment;
  }

  #answer(wanted: readonly Assignment[], committed: readonly CommittedOffset[]): void {
    const byKey = new Map(committed.map((offset) => [partitionKey(offset), offset]));
    for (const assignment of wanted) {
      if (!this.#stands(assignment)) continue;
      const found = byKey.get(partitionKey(assignment));
      const error = found === undefined ? "UNSTABLE_OFFSET_COMMIT" : found.error;
      if (found === undefined || error !== undefined) {
        this.#host.stalled(refusedError(error ?? "", assignment, 0), `offsets ${error}`);
        this.#retry(assignment);
      } else {
        assignment.failures = 0;
        this.#begin(found);
      }
    }
  }

  #begin(found: CommittedOffset): void {
    const { offset, metadata } = found;
    if (offset >= 0 && isOurs(metadata) && !isReadable(metadata)) {
      this.#host.notice(metadataNotice(found, this.#group, offset));
    }
    this.#host.begin(OwnedPartition.from(found));
  }

  #retry(assignment: Assignment): void {
    const { retry, random } = this.#parts;
    this.#askLater(assignment, backoffMs(++assignment.failures, retry, random));
  }

  #askLater(assignment: Assignment, ms: number): void {
    if (this.#closed) return;
    const timer = this.#parts.clock.schedule(() => {
      this.#timers.delete(timer);
      this.#ask([assignment]);
    }, ms);
    this.#timers.add(timer);
  }
}

function asError(error: unknown, group: string): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", `the offsets of group "${group}" cannot be read; it is tried again`, {
    cause: error,
  });
}
