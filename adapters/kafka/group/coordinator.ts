import { type Clock, within } from "../../../core/clock.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../../core/errors.ts";
import type {
  ClusterMetadata,
  CommittedOffset,
  KafkaClient,
  KafkaConnection,
  PartitionOffset,
  TopicPartition,
} from "../port.ts";

/** Hears of assigned and revoked partitions. No method throws. */
export interface RebalanceListener {
  /** These partitions are assigned, in addition to earlier ones. */
  assigned(partitions: readonly TopicPartition[]): void;
  /**
   * The group wants these back for other members. Resolves once they are drained and committed; until then they are
   * ours. After the rebalance timeout they are lost. Calls may overlap. If the group changes its mind, `assigned`
   * follows.
   */
  revoke(partitions: readonly TopicPartition[]): Promise<void>;
  /** These partitions are lost, and others may have them already; possible during `revoke` too. */
  lost(partitions: readonly TopicPartition[], cause: MessagingError): void;
  /** The membership or a topic is unavailable; the member keeps trying. Called for each failed attempt. */
  failed(cause: MessagingError): void;
}

/** The outcome of a commit: `fenced` if the partition is not ours, `failed` if it may be tried again. */
export type CommitOutcome = "committed" | "fenced" | "failed";

/** A member of a consumer group until it is closed, over rebalances, restarts and lost sessions. */
export interface GroupMember {
  /**
   * Resolves when this member first owns all that the group has for it. Rejects with `conflict` if members of another
   * protocol are in the group; the member keeps trying until it is closed.
   */
  readonly complete: Promise<void>;
  /**
   * Commits offsets in one request, with an outcome each, in order. Tries for up to 10 s, over rebalances. Commits of
   * one partition must not overlap. Never rejects.
   */
  commit(offsets: readonly (PartitionOffset & { readonly metadata: string })[]): Promise<readonly CommitOutcome[]>;
  /**
   * Reads committed offsets, in order and without errors; tries until the coordinator answers. Rejects with `closed`
   * once the member is closed.
   */
  committed(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]>;
  /** The topics may have changed: checks them now. */
  refresh(): void;
  /** Leaves the group at once, without `revoke`. A second call waits for the first. */
  close(): Promise<void>;
}

/** Settles as `work` does, or rejects with `timeout` after `ms` milliseconds. */
export function answerWithin<Result>(clock: Clock, ms: number, what: string, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = clock.schedule(() => {
      reject(new MessagingError("timeout", `Kafka gave no answer within ${ms} ms to: ${what}; trying again`));
    }, ms);
    work.then(resolve, reject).finally(() => clock.cancel(timer));
  });
}

/** The group does not know this member or generation any more. */
const FENCED: ReadonlySet<string> = new Set(["ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID"]);

/** The same commit would be refused again. */
const UNCOMMITTABLE: ReadonlySet<string> = new Set([
  "OFFSET_METADATA_TOO_LARGE",
  "INVALID_COMMIT_OFFSET_SIZE",
  "GROUP_AUTHORIZATION_FAILED",
  "TOPIC_AUTHORIZATION_FAILED",
  "UNKNOWN_TOPIC_OR_PARTITION",
]);

/** Lasting refusals: the code and the advice. */
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

/** Whether the member is out of its group or generation. */
export function isFenced(name: string): boolean {
  return FENCED.has(name);
}

/** Whether the same commit would be refused again. */
export function isUncommittable(name: string): boolean {
  return UNCOMMITTABLE.has(name);
}

/** Whether only people can resolve it, so that retries may be slow. */
export function isRefusal(error: MessagingError): boolean {
  return error.code !== "unreachable" && error.code !== "timeout";
}

/** Converts a protocol error. `what` completes "Kafka could not …". */
export function answerError(name: string, what: string): MessagingError {
  const [code, next] = REFUSALS[name] ?? ["unreachable", "trying again"];
  return new MessagingError(code, `Kafka could not ${what} (${name}); ${next}`);
}

/** The coordinator repeats something else than this member sent. `what` names it. */
export function inconsistentCoordinator(group: string, what: string): MessagingError {
  return new MessagingError(
    "unreachable",
    `the coordinator of group ${group} does not repeat what ${what}: partitions may be without a consumer; joining again. If it lasts, check proxies between this process and Kafka`,
  );
}

/** The error of a request as a `MessagingError`. */
export function requestError(error: unknown, what: string): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", `Kafka could not be asked to ${what}; trying again`, { cause: error });
}

/** How long to wait for the first assignment. A new group assigns nothing for some seconds. */
const FIRST_ASSIGNMENT_MS = 10_000;

/** Resolves at a member's first assignment, or after 10 s. Rejects with `conflict` if it cannot join the group. */
export function firstAssignment(clock: Clock, member: Pick<GroupMember, "complete">): Promise<void> {
  return within(clock, FIRST_ASSIGNMENT_MS, member.complete);
}

/** A request to the coordinator. */
type Request<Result> = (connection: KafkaConnection, node: number) => Promise<Result>;

/** A new group waits 3 s for its first members by default. */
const MIN_JOIN_PATIENCE_MS = 5_000;

/**
 * Sends requests to a group's coordinator, over two connections: a join is answered when all members have joined, and
 * would hold up later requests.
 */
export class CoordinatorLink {
  readonly #client: KafkaClient;
  readonly #group: string;
  readonly #clock: Clock;
  /** How long an answer may take that does not wait for other members, in milliseconds. */
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
   * Sends a request that waits for other members. Rejects with a `MessagingError`; with `timeout` early, since nothing
   * else detects a half-open connection. Asking again keeps the member's place.
   */
  join<Result>(what: string, request: Request<Result>): Promise<Result> {
    return this.#ask("joining", what, Math.max(this.#patienceMs, MIN_JOIN_PATIENCE_MS), request);
  }

  /**
   * Sends a request that is answered at once. Rejects with a `MessagingError`; even so it may be carried out, possibly
   * late.
   */
  ask<Result>(what: string, request: Request<Result>): Promise<Result> {
    return this.#ask("asking", what, this.#patienceMs, request);
  }

  metadata(topics: readonly string[]): Promise<ClusterMetadata> {
    return this.#on("asking", "describe topics", this.#patienceMs, (connection) => connection.metadata(topics));
  }

  /** The coordinator must be found again. */
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
      return await answerWithin(this.#clock, ms, what, request(connection));
    } catch (error) {
      if (this.#connections[role] === connection && isMessagingError(error, "timeout")) {
        this.#replace(role);
        // If even a quick request has no answer, a join has none either.
        if (role === "asking") this.#replace("joining");
      }
      throw requestError(error, what);
    }
  }

  /** One search for all callers. */
  #find(): Promise<number> {
    this.#finding ??= this.#lookUp().finally(() => {
      this.#finding = undefined;
    });
    return this.#finding;
  }

  async #lookUp(): Promise<number> {
    const what = `name the coordinator of group ${this.#group}`;
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

/** Lets callers wait for a notification, with a timeout. */
export class WakeSignal {
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Wakes all waiting callers. */
  notify(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves at the next notification, or after `ms` milliseconds. */
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
