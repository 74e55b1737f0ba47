import type { Clock } from "../../../core/clock.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../../core/errors.ts";
import type {
  ClusterMetadata,
  CommittedOffset,
  KafkaClient,
  KafkaConnection,
  PartitionOffset,
  TopicPartition,
} from "../port.ts";

/** What a member tells of its partitions. No call throws. */
export interface RebalanceListener {
  /** These are ours from now on, beside those that were. */
  assigned(partitions: readonly TopicPartition[]): void;
  /**
   * Others are to have these. Resolves when nothing of them is under way any more and what was finished is committed; only
   * then the group hands them on. They are ours until then. Past the rebalance timeout they are lost. Called for others
   * while it is under way for some. If the group changed its mind they come back by `assigned` right after it resolved.
   */
  revoke(partitions: readonly TopicPartition[]): Promise<void>;
  /** These are not ours any more, and others may have them already; also while they are being revoked. */
  lost(partitions: readonly TopicPartition[], cause: MessagingError): void;
  /** There is no membership for now, or a topic cannot be read, and why; it goes on trying. Called for each attempt. */
  failed(cause: MessagingError): void;
}

/** What became of the commit for one partition: `fenced` if it is not ours; `failed` if it is worth trying again. */
export type CommitOutcome = "committed" | "fenced" | "failed";

/** A member of a consumer group, which stays one until it is closed: over rebalances, restarts and lost sessions. */
export interface GroupMember {
  /**
   * Resolves when the group has given this member, for the first time, all that it is to have at present: others may have
   * had to give it up first. Rejects with `conflict` if members of another protocol are in the group before that; this one
   * goes on trying until it is closed. Stays open if neither comes about.
   */
  readonly complete: Promise<void>;
  /**
   * Commits for partitions that are ours, in one request; one outcome each, in order. Tries for up to 10 s, over
   * rebalances. A commit of a partition is to wait for the one before it. Never rejects.
   */
  commit(offsets: readonly (PartitionOffset & { readonly metadata: string })[]): Promise<readonly CommitOutcome[]>;
  /**
   * What stands committed, asked of the coordinator, in order and without errors; tries until it answers. Rejects with
   * `closed` once the member is closed.
   */
  committed(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]>;
  /** The topics may have changed: a partition or a topic is missing, or there are more. Looks now instead of soon. */
  refresh(): void;
  /** Leaves the group at once, without asking its listener for anything. A second call waits for the first. */
  close(): Promise<void>;
}

/** Settles as `work` does, or rejects with `timeout` after `ms` milliseconds; what `work` does later is of no interest. */
export function within<Result>(clock: Clock, ms: number, what: string, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = clock.schedule(() => {
      reject(new MessagingError("timeout", `Kafka gave no answer within ${ms} ms to: ${what}; trying again`));
    }, ms);
    work.then(resolve, reject).finally(() => clock.cancel(timer));
  });
}

/** The group knows this member, or this generation of it, no more. */
const FENCED: ReadonlySet<string> = new Set(["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID"]);

/** The same commit would be refused again, however often it is tried. */
const UNCOMMITTABLE: ReadonlySet<string> = new Set([
  "OFFSET_METADATA_TOO_LARGE",
  "INVALID_COMMIT_OFFSET_SIZE",
  "GROUP_AUTHORIZATION_FAILED",
  "TOPIC_AUTHORIZATION_FAILED",
  "UNKNOWN_TOPIC_OR_PARTITION",
]);

/** What time alone does not mend: the code, and what to do. */
const REFUSALS: Readonly<Record<string, readonly [MessagingErrorCode, string]>> = {
  GROUP_AUTHORIZATION_FAILED: ["unauthorized", "grant the right to read the group"],
  TOPIC_AUTHORIZATION_FAILED: ["unauthorized", "grant the right to read and describe the topic"],
  INVALID_SESSION_TIMEOUT: [
    "invalid",
    "choose a session timeout between the server's group.min.session.timeout.ms and group.max.session.timeout.ms",
  ],
  INVALID_GROUP_ID: ["invalid", "choose another name"],
  GROUP_MAX_SIZE_REACHED: ["conflict", "the group is full; raise the server's group.max.size or stop consumers"],
  UNKNOWN_TOPIC_OR_PARTITION: ["not-found", "create the topic; it is looked for again"],
  INVALID_TOPIC_EXCEPTION: ["invalid", "choose a name that Kafka allows"],
  OFFSET_METADATA_TOO_LARGE: ["too-large", "raise the server's offset.metadata.max.bytes"],
  INVALID_COMMIT_OFFSET_SIZE: ["too-large", "raise the server's message.max.bytes for its offsets topic"],
};

/** Whether an answer says that the member is out of its group, or of the generation that it asked in. */
export function isFenced(name: string): boolean {
  return FENCED.has(name);
}

/** Whether an answer to a commit stays the same when it is tried again at once. */
export function isUncommittable(name: string): boolean {
  return UNCOMMITTABLE.has(name);
}

/** Whether only people can mend it, so that trying again may be slow. */
export function isRefusal(error: MessagingError): boolean {
  return error.code !== "unreachable" && error.code !== "timeout";
}

/** An error that Kafka answered with. `what` completes "Kafka could not …". */
export function answerError(name: string, what: string): MessagingError {
  const [code, next] = REFUSALS[name] ?? ["unreachable", "trying again"];
  return new MessagingError(code, `Kafka could not ${what} (${name}); ${next}`);
}

/** The coordinator repeats to a member something else than was said. `what` names it. */
export function inconsistentCoordinator(group: string, what: string): MessagingError {
  return new MessagingError(
    "unreachable",
    `the coordinator of group ${group} does not repeat what ${what}: partitions may be with nobody; joining again. If it lasts, see what stands between this process and Kafka`,
  );
}

/** Whatever a request rejected with, as our own. */
export function requestError(error: unknown, what: string): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", `Kafka could not be asked to ${what}; trying again`, { cause: error });
}

/** How long the first assignment is waited for; a group that begins deals out nothing for some seconds. */
const FIRST_ASSIGNMENT_MS = 10_000;

/** Resolves when a member has its share, or after 10 s. Rejects with `conflict` if the group is not one that it can join. */
export function firstAssignment(clock: Clock, member: Pick<GroupMember, "complete">): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = clock.schedule(resolve, FIRST_ASSIGNMENT_MS);
    member.complete.then(resolve, reject).finally(() => clock.cancel(timer));
  });
}

/** A request to the node that coordinates the group. */
type Request<Result> = (connection: KafkaConnection, node: number) => Promise<Result>;

/** A new group waits for its first members for 3 s by default. */
const MIN_JOIN_PATIENCE_MS = 5_000;

/**
 * The ways to a group's coordinator. Two connections: a join is answered when everybody has joined, and holds up whatever
 * comes after it on its own.
 */
export class CoordinatorLink {
  readonly #client: KafkaClient;
  readonly #group: string;
  readonly #clock: Clock;
  /** How long an answer may take, in milliseconds, that need not wait for other members. */
  readonly #patienceMs: number;
  readonly #connections: { joining: KafkaConnection; asking: KafkaConnection };
  #node: number | undefined;
  #finding: Promise<number> | undefined;
  #isClosed = false;

  constructor(client: KafkaClient, group: string, clock: Clock, patienceMs: number) {
    this.#client = client;
    this.#group = group;
    this.#clock = clock;
    this.#patienceMs = patienceMs;
    this.#connections = { joining: client.connection(), asking: client.connection() };
  }

  /**
   * A request that waits for other members. Rejects with a `MessagingError`: with `timeout` long before the others may be
   * ready, since nothing else tells of a connection that is open on one side only. Asking again takes the place.
   */
  join<Result>(what: string, request: Request<Result>): Promise<Result> {
    return this.#ask("joining", what, Math.max(this.#patienceMs, MIN_JOIN_PATIENCE_MS), request);
  }

  /** A request that is answered at once. Rejects with a `MessagingError`; it may be carried out all the same, and late. */
  ask<Result>(what: string, request: Request<Result>): Promise<Result> {
    return this.#ask("asking", what, this.#patienceMs, request);
  }

  metadata(topics: readonly string[]): Promise<ClusterMetadata> {
    return this.#on("asking", "tell about topics", this.#patienceMs, (connection) => connection.metadata(topics));
  }

  /** The coordinator is to be looked up anew. */
  forget(): void {
    this.#node = undefined;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { joining, asking } = this.#connections;
    await Promise.allSettled([joining.close(), asking.close()]);
  }

  async #ask<Result>(role: "joining" | "asking", what: string, ms: number, request: Request<Result>): Promise<Result> {
    const node = this.#node ?? (await this.#find());
    try {
      return await this.#on(role, what, ms, (connection) => request(connection, node));
    } catch (error) {
      if (this.#node === node) this.forget();
      throw error;
    }
  }

  async #on<Result>(
    role: "joining" | "asking",
    what: string,
    ms: number,
    request: (connection: KafkaConnection) => Promise<Result>,
  ): Promise<Result> {
    if (this.#isClosed) throw new MessagingError("closed", `the member of group ${this.#group} is closed`);
    const connection = this.#connections[role];
    try {
      return await within(this.#clock, ms, what, request(connection));
    } catch (error) {
      if (this.#connections[role] === connection && isMessagingError(error, "timeout")) {
        this.#replace(role);
        // Where what is answered at once has no answer, a join has none either.
        if (role === "asking") this.#replace("joining");
      }
      throw requestError(error, what);
    }
  }

  /** Once for all who ask meanwhile. */
  #find(): Promise<number> {
    this.#finding ??= this.#lookUp().finally(() => {
      this.#finding = undefined;
    });
    return this.#finding;
  }

  async #lookUp(): Promise<number> {
    const what = `tell the coordinator of group ${this.#group}`;
    const { error, node } = await this.#on("asking", what, this.#patienceMs, (connection) =>
      connection.coordinator(this.#group),
    );
    if (error !== undefined) throw answerError(error, what);
    this.#node = node;
    return node;
  }

  #replace(role: "joining" | "asking"): void {
    this.forget();
    if (this.#isClosed) return;
    const old = this.#connections[role];
    this.#connections[role] = this.#client.connection();
    old.close({ distrusted: true }).catch(() => {});
  }
}

/** Lets one part wait for a word of another, and no longer than it wants to. */
export class WakeSignal {
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Wakes everyone who waits now. */
  notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves at the next notify, or after `ms` milliseconds. */
  wait(ms?: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        if (timer !== undefined) this.#clock.cancel(timer);
        resolve();
      };
      const timer = ms === undefined ? undefined : this.#clock.schedule(wake, ms);
      this.#waiting.add(wake);
    });
  }
}
