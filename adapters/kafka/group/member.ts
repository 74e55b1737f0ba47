import type { Clock, Random, Timer } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../../core/retry-policy.ts";
import type {
  CommittedOffset,
  JoinOutcome,
  JoinRequest,
  KafkaClient,
  Membership,
  SyncRequest,
  TopicPartition,
} from "../port.ts";
import {
  type Commit,
  Commits,
  foreignGroup,
  foreignMembers,
  GroupAssignment,
  unreadableAssignment,
} from "./assignment.ts";
import {
  answerError,
  answerWithin,
  type CommitOutcome,
  CoordinatorLink,
  type GroupMember,
  inconsistentCoordinator,
  isFenced,
  isRefusal,
  type RebalanceListener,
  requestError,
  WakeSignal,
} from "./coordinator.ts";
import { type Assignment, decodeAssignment, encodeSubscription, PROTOCOL, type TopicView } from "./protocol.ts";
import { MemberSession } from "./session.ts";
import { TopicWatch } from "./topics.ts";

/** The options of a member. */
interface MemberOptions {
  readonly client: KafkaClient;
  readonly group: string;
  /** The topics to read. Members may differ for a while, as during a rollout. */
  readonly topics: readonly string[];
  /** Milliseconds without a heartbeat after which a member's partitions go to others. Default 30,000. */
  readonly sessionTimeoutMs?: number;
  /**
   * Milliseconds that the listener may take to give up partitions, before they are lost. The group waits this long for
   * members to join again, but at least the session timeout.
   */
  readonly rebalanceTimeoutMs: number;
  /**
   * Milliseconds between heartbeats. Others wait this long for us at each change. Default 1,000, at most a third of the
   * session timeout.
   */
  readonly heartbeatMs?: number;
  readonly listener: RebalanceListener;
  readonly clock: Clock;
  readonly random: Random;
}

/** What heartbeats report. */
interface HeartbeatEvents {
  /** The group rebalances: join again. */
  rebalancing(membership: Membership): void;
  fenced(membership: Membership, name: string): void;
}

/** Sends heartbeats by a timer, independent of other work. */
class Heartbeats {
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #link: CoordinatorLink;
  readonly #session: MemberSession;
  readonly #events: HeartbeatEvents;
  #timer: Timer | undefined;
  #isBeating = false;

  constructor(clock: Clock, everyMs: number, link: CoordinatorLink, session: MemberSession, events: HeartbeatEvents) {
    this.#clock = clock;
    this.#everyMs = everyMs;
    this.#link = link;
    this.#session = session;
    this.#events = events;
  }

  start(): void {
    // All members of a process at the same time, so that their requests go out together.
    const ms = this.#everyMs - (this.#clock.monotonic() % this.#everyMs);
    this.#timer = this.#clock.schedule(() => {
      this.start();
      this.#session.check();
      if (!this.#isBeating) void this.#beat();
    }, ms);
  }

  stop(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }

  async #beat(): Promise<void> {
    const { membership, term } = this.#session;
    if (membership === undefined) return;
    const asked = this.#session.moment();
    this.#isBeating = true;
    try {
      const error = await this.#link.ask("hear a heartbeat", (connection, node) =>
        connection.heartbeat(node, membership),
      );
      if (this.#timer === undefined || term !== this.#session.term) return;
      if (error === undefined || error === "REBALANCE_IN_PROGRESS") this.#session.seen(asked);
      if (error === "REBALANCE_IN_PROGRESS") this.#events.rebalancing(membership);
      else if (error !== undefined && isFenced(error)) this.#events.fenced(membership, error);
      else if (error !== undefined) this.#link.forget();
    } catch {
      // The next heartbeat finds the coordinator again; without any answer the session expires.
    } finally {
      this.#isBeating = false;
    }
  }
}

const SESSION_TIMEOUT_MS = 30_000;
const HEARTBEAT_MS = 1_000;
const RETRY: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 5_000 });
const MAX_COMMIT_MS = 10_000;
const CLOSE_MS = 2_000;

/** Joins a group and stays in it until closed. Calls the listener only after it returned. */
export function openMember(options: MemberOptions): GroupMember {
  return new Member(options);
}

class Member implements GroupMember {
  readonly #options: MemberOptions;
  readonly #clock: Clock;
  readonly #sessionTimeoutMs: number;
  readonly #link: CoordinatorLink;
  readonly #session: MemberSession;
  readonly #heartbeats: Heartbeats;
  readonly #assignment: GroupAssignment;
  readonly #commits: Commits;
  readonly #topics: TopicWatch;
  /** Notified when commits may continue. */
  readonly #changed: WakeSignal;
  /** Notified when the group must be joined again. */
  readonly #wanted: WakeSignal;
  readonly #ended: WakeSignal;
  /** From the start of a join to its success. */
  #isJoining = false;
  #isJoinWanted = true;
  /** Requests of one generation may still be carried out in it; only a new generation rules that out. */
  #rejoins = 0;
  readonly #complete = Promise.withResolvers<void>();
  #closing: Promise<void> | undefined;

  constructor(options: MemberOptions) {
    const { client, group, clock, rebalanceTimeoutMs, sessionTimeoutMs = SESSION_TIMEOUT_MS } = options;
    this.#options = options;
    this.#clock = clock;
    this.#sessionTimeoutMs = sessionTimeoutMs;
    this.#changed = new WakeSignal(clock);
    this.#wanted = new WakeSignal(clock);
    this.#ended = new WakeSignal(clock);
    this.#link = new CoordinatorLink(client, group, clock, Math.ceil(sessionTimeoutMs / 3));
    this.#session = new MemberSession(group, clock, sessionTimeoutMs, () => this.#expired());
    this.#heartbeats = new Heartbeats(
      clock,
      Math.min(options.heartbeatMs ?? HEARTBEAT_MS, sessionTimeoutMs / 3),
      this.#link,
      this.#session,
      {
        rebalancing: ({ generation }) => {
          if (!this.#isJoining && generation === this.#session.membership?.generation) this.#joinAgain();
        },
        fenced: (membership, name) => this.#fenced(membership, name),
      },
    );
    this.#assignment = new GroupAssignment(
      options.listener,
      {
        commitsEnded: () => this.#commits.ended(),
        revoked: () => this.#joinAgain(),
        complete: () => this.#complete.resolve(),
      },
      clock,
      rebalanceTimeoutMs,
    );
    this.#commits = new Commits(
      group,
      this.#link,
      {
        isClosed: () => this.#closing !== undefined,
        membership: () => {
          this.#session.check();
          return this.#session.assigned;
        },
        ownedPartition: (partition) => this.#assignment.of(partition),
        fenced: (membership, name) => this.#fenced(membership, name),
        renewGeneration: () => {
          if (this.#isJoining) return;
          this.#rejoins++;
          this.#joinAgain();
        },
        report: (cause) => this.#report(cause),
        backoffMs: (attempt) => this.#backoffMs(attempt),
      },
      clock,
      Math.min(MAX_COMMIT_MS, sessionTimeoutMs),
      this.#changed,
    );
    this.#topics = new TopicWatch(clock, async (topics) => (await this.#link.metadata(topics)).topics, {
      changed: () => this.#joinAgain(),
      unchanged: (topics) => this.#reportProblems(topics),
    });
    this.#heartbeats.start();
    // Callers of `complete` see the rejection.
    this.#complete.promise.catch(() => undefined);
    void this.#stay();
  }

  get complete(): Promise<void> {
    return this.#complete.promise;
  }

  commit(offsets: readonly Commit[]): Promise<readonly CommitOutcome[]> {
    return this.#commits.commit(offsets);
  }

  committed(partitions: readonly TopicPartition[]): Promise<readonly CommittedOffset[]> {
    return this.#commits.committed(partitions);
  }

  refresh(): void {
    this.#topics.refresh();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { memberId } = this.#session;
    this.#heartbeats.stop();
    this.#session.end("nothing");
    this.#assignment.end();
    this.#topics.stop();
    // After `close` returned, so that waiting code sees the member as closed.
    await Promise.resolve();
    for (const wakeSignal of [this.#changed, this.#wanted, this.#ended]) wakeSignal.notify();
    if (memberId !== "") await this.#leaveGroup(memberId);
    await answerWithin(this.#clock, CLOSE_MS, "close connections", this.#link.close()).catch(() => {});
  }

  async #stay(): Promise<void> {
    // The caller gets the member first.
    await Promise.resolve();
    for (let failures = 0; this.#closing === undefined; ) {
      this.#isJoining = true;
      this.#isJoinWanted = false;
      const result = await this.#join().catch((error) => this.#failed(requestError(error, this.#what)));
      if (this.#closing !== undefined) return;
      if (result === "joined") {
        failures = 0;
        this.#isJoining = false;
        this.#changed.notify();
        while (!this.#isJoinWanted && this.#closing === undefined) await this.#wanted.wait();
      } else if (result === "again") {
        await this.#ended.wait(this.#backoffMs(1));
      } else {
        if (++failures > 1 || isRefusal(result)) this.#report(result);
        await this.#ended.wait(this.#backoffMs(isRefusal(result) ? Number.POSITIVE_INFINITY : failures));
      }
    }
  }

  /** Joins the group and applies its assignment. */
  async #join(): Promise<"joined" | "again" | MessagingError> {
    const session = this.#session;
    const { term } = session;
    if (session.memberId === "") {
      const foreign = await this.#foreign();
      if (foreign !== undefined) return this.#cannotJoin(foreign);
      if (term !== session.term) return "again";
    }
    const joinAsked = session.moment();
    const invited = session.memberId !== "";
    let sentMetadata: Buffer = Buffer.alloc(0);
    const joined = await this.#link.join(this.#what, (connection, node) => {
      const request = this.#joinRequest();
      sentMetadata = request.metadata;
      return connection.joinGroup(node, request);
    });
    if (term !== session.term) return "again";
    if (joined.error === "MEMBER_ID_REQUIRED") {
      session.invited(joined.memberId);
      // A coordinator that gives no member id, or another one, could repeat this for ever.
      return invited || joined.memberId === "" ? "again" : await this.#join();
    }
    if (joined.error !== undefined) return this.#refused(joined.error);
    session.joined(joined.memberId, joined.generation, joinAsked);
    const isLeader = joined.leader === joined.memberId;
    // The leader divides by what the coordinator says each member sent; joining again repeats it.
    if (isLeader && !isAmong(joined, sentMetadata))
      return inconsistentCoordinator(this.#options.group, "its leader joined with");
    const assignments = isLeader ? await this.#topics.divide(joined) : [];

    const membership = session.membership;
    if (term !== session.term || membership === undefined) return "again";
    const syncAsked = session.moment();
    const synced = await this.#link.join(this.#what, (connection, node) =>
      connection.syncGroup(node, { ...membership, assignments }),
    );
    if (term !== session.term) return "again";
    if (synced.error !== undefined) return this.#refused(synced.error);
    session.gotAssignment(syncAsked);
    session.check();
    if (term !== session.term) return "again";
    let assignment: Assignment;
    try {
      assignment = decodeAssignment(synced.assignment, this.#options.topics);
    } catch (error) {
      return this.#leave(unreadableAssignment(this.#options.group, error));
    }
    const wrong = this.#contradiction(assignment, synced.assignment, assignments);
    // The partitions may still come.
    this.#adopt(wrong === undefined ? assignment : { ...assignment, awaited: 1 }, isLeader);
    if (wrong === undefined) return "joined";
    // Only a new generation brings another assignment.
    this.#rejoins++;
    return wrong;
  }

  /** Why an assignment contradicts the topics that this member joined with, or what it assigned as the leader. */
  #contradiction({ topics }: Assignment, bytes: Buffer, given: SyncRequest["assignments"]): MessagingError | undefined {
    const { group, topics: read } = this.#options;
    const own = given.find(({ memberId }) => memberId === this.#session.memberId);
    if (own !== undefined && !own.assignment.equals(bytes))
      return inconsistentCoordinator(group, "its leader assigned");
    const known = new Set(topics.map(({ topic }) => topic));
    return read.every((topic) => known.has(topic))
      ? undefined
      : inconsistentCoordinator(group, "this member joined with");
  }

  /** Finds members of another protocol. Rejects if that is unknown. */
  async #foreign(): Promise<MessagingError | undefined> {
    const { group } = this.#options;
    const what = `describe group ${group}`;
    const found = await this.#link.ask(what, (connection, node) => connection.describeGroup(node, group));
    if (found.error !== undefined) {
      this.#link.forget();
      throw answerError(found.error, what);
    }
    return foreignMembers(group, found);
  }

  #cannotJoin(cause: MessagingError): MessagingError {
    this.#complete.reject(cause);
    return cause;
  }

  /** Leaves the group to members that can read its assignments. */
  async #leave(cause: MessagingError): Promise<MessagingError> {
    const { memberId } = this.#session;
    this.#end("nothing", cause);
    await this.#leaveGroup(memberId);
    return this.#cannotJoin(cause);
  }

  /** If leaving fails, the session expires. */
  async #leaveGroup(memberId: string): Promise<void> {
    const { group } = this.#options;
    const leave = this.#link.ask("let a member go", (connection, node) =>
      connection.leaveGroup(node, { group, memberId }),
    );
    await answerWithin(this.#clock, CLOSE_MS, "let a member go", leave).catch(() => {});
  }

  get #what(): string {
    return `take a member into group ${this.#options.group}`;
  }

  #joinRequest(): JoinRequest {
    const { group, topics } = this.#options;
    const { staying: held, leaving } = this.#assignment;
    return {
      group,
      memberId: this.#session.memberId,
      sessionTimeoutMs: this.#sessionTimeoutMs,
      rebalanceTimeoutMs: Math.max(this.#options.rebalanceTimeoutMs, this.#sessionTimeoutMs),
      protocol: PROTOCOL,
      metadata: encodeSubscription({
        topics,
        rejoins: this.#rejoins,
        generation: this.#session.assignedGeneration,
        held,
        leaving,
      }),
    };
  }

  #failed(error: MessagingError): "again" | MessagingError {
    // The group waits for others or does not answer; heartbeats find out which.
    return error.code === "timeout" && this.#session.membership !== undefined ? "again" : error;
  }

  #refused(name: string): "again" | MessagingError {
    if (name === "REBALANCE_IN_PROGRESS") return "again";
    const foreign = foreignGroup(this.#options.group, name);
    if (foreign !== undefined) return this.#cannotJoin(foreign);
    const error = answerError(name, `take a member into group ${this.#options.group}`);
    if (isFenced(name)) this.#end(name === "ILLEGAL_GENERATION" ? "member-id" : "nothing", error);
    else this.#link.forget();
    return error;
  }

  #adopt(assignment: Assignment, isLeader: boolean): void {
    this.#assignment.adopt(assignment);
    this.#reportProblems(assignment.topics);
    this.#topics.begin(assignment.topics, isLeader);
  }

  #reportProblems(topics: readonly TopicView[]): void {
    for (const { topic, problem } of topics) {
      if (problem !== "" && this.#options.topics.includes(topic)) {
        this.#report(answerError(problem, `read topic ${topic}`));
      }
    }
  }

  #joinAgain(): void {
    this.#isJoinWanted = true;
    this.#wanted.notify();
  }

  /** Handles a refusal of a request that was sent as `membership`. */
  #fenced(membership: Membership, name: string): void {
    const current = this.#session.membership;
    if (current === undefined || current.memberId !== membership.memberId) return;
    const illegal = name === "ILLEGAL_GENERATION";
    // During a join the group may be one generation ahead.
    if (illegal && (this.#isJoining || current.generation !== membership.generation)) return;
    this.#end(illegal ? "member-id" : "nothing", answerError(name, `keep a member of group ${this.#options.group}`));
  }

  #expired(): void {
    const { group } = this.#options;
    const text = `no answer of the coordinator of group ${group} for ${this.#sessionTimeoutMs} ms, the session timeout: partitions may be with others; joining again`;
    this.#end("member-id", new MessagingError("timeout", text));
  }

  /** Everything is lost. */
  #end(keep: "member-id" | "nothing", cause: MessagingError): void {
    this.#session.end(keep);
    this.#rejoins++;
    this.#assignment.loseAll(cause);
    this.#joinAgain();
  }

  #report(cause: MessagingError): void {
    if (this.#closing === undefined) this.#options.listener.failed(cause);
  }

  #backoffMs(attempt: number): number {
    return backoffMs(attempt, RETRY, this.#options.random);
  }
}

/** Whether the coordinator lists the leader with the metadata that it sent. */
function isAmong({ members, memberId }: JoinOutcome, sentMetadata: Buffer): boolean {
  return members.some((member) => member.memberId === memberId && member.metadata.equals(sentMetadata));
}
