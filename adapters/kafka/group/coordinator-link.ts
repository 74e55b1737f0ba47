import type { Clock } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { ClusterMetadata, KafkaClient, KafkaConnection } from "../port.ts";
import { within } from "./deadline.ts";
import { answerError, requestError } from "./errors.ts";

/** A request to the node that coordinates the group. */
export type Request<Result> = (connection: KafkaConnection, node: number) => Promise<Result>;

/** A new group waits for its first members for 3 s by default. */
const SHORTEST_JOIN_PATIENCE_MS = 5_000;

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
    return this.#ask("joining", what, Math.max(this.#patienceMs, SHORTEST_JOIN_PATIENCE_MS), request);
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
