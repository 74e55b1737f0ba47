import type { OutgoingMessage } from "../../../core/adapter.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../../core/index.ts";
import type { RelaySettings } from "../relay-options.ts";
import type { OutboxError, OutboxRow, OutboxSettlement } from "../store.ts";
import type { HeldClaim, HeldRow } from "./held-claim.ts";
import { SilentPlaces } from "./silent-places.ts";
import type { StallWatch } from "./stall-watch.ts";
import type { UnchangedRows } from "./unchanged-rows.ts";

/** What says for certain that the broker does not have the message, and that it is the message's fault, or its place's. */
const REFUSALS: ReadonlySet<MessagingErrorCode> = new Set<MessagingErrorCode>([
  "unsupported",
  "invalid",
  "too-large",
  "unroutable",
  "not-found",
  "conflict",
  "refused",
  "unauthorized",
]);
const LONGEST_ERROR = 1024;

/** How many rows had which end, since the relay was made. */
export interface SendCounts {
  sent: number;
  failed: number;
  quarantined: number;
  postponed: number;
}

/**
 * Sends the rows of claims through the publisher engine of the broker object, each key in order: the next only when the
 * broker has confirmed the one before, or that one is not to hold it.
 */
export class Sender {
  readonly #settings: RelaySettings;
  readonly #watch: StallWatch;
  readonly #counts: SendCounts;
  readonly #settle: (claim: HeldClaim, settlement: OutboxSettlement) => void;
  readonly #silent: SilentPlaces;
  readonly #unchanged: UnchangedRows;
  #stopped = false;

  constructor(
    settings: RelaySettings,
    watch: StallWatch,
    counts: SendCounts,
    unchanged: UnchangedRows,
    settle: (claim: HeldClaim, settlement: OutboxSettlement) => void,
  ) {
    this.#settings = settings;
    this.#watch = watch;
    this.#counts = counts;
    this.#unchanged = unchanged;
    this.#settle = settle;
    this.#silent = new SilentPlaces(settings.internals.clock, settings.retry);
  }

  /** Begins with a claim. */
  send(claim: HeldClaim): void {
    for (const held of claim.takeHeads()) this.#send(claim, held);
  }

  /** Begins nothing more; what was not begun is given back. */
  stop(claims: Iterable<HeldClaim>): void {
    this.#stopped = true;
    for (const claim of claims) this.#release(claim, claim.takeWaiting());
  }

  /** Waits no more for what is on its way, and gives it back: it may be sent twice, under its id. */
  abandon(claims: Iterable<HeldClaim>): void {
    for (const claim of claims) this.#release(claim, claim.takeSending());
  }

  #send(claim: HeldClaim, held: HeldRow): void {
    const { internals } = this.#settings;
    claim.began(held);
    const { unreadable } = held.row;
    if (unreadable !== undefined) {
      if (claim.ended(held)) this.#quarantine(claim, held, unreadable);
      return;
    }
    const unchanged = this.#unchanged.look(held.row);
    if (unchanged !== undefined) {
      claim.ended(held);
      if (unchanged.waits) this.#pass(claim, held, unchanged.sent);
      else this.#quarantine(claim, held, unremoved(held.row), false);
      return;
    }
    const aside = this.#silent.aside(held.row);
    if (aside !== undefined) {
      claim.ended(held);
      // Those behind it go to the same place.
      const behind = held.row.ordered ? [] : claim.takeBehind(held);
      for (const each of [held, ...behind]) this.#postpone(claim, each, aside.error, aside.retryMs);
      if (held.row.ordered) this.#release(claim, claim.takeBehind(held));
      return;
    }
    internals.sendCopy(held.row.to, held.row.ordered, this.#message(held)).then(
      () => this.#sent(claim, held),
      (error: unknown) => this.#failed(claim, held, error),
    );
  }

  #message({ row, bytes }: HeldRow): OutgoingMessage {
    const { clock } = this.#settings.internals;
    return {
      id: row.id,
      key: row.key,
      routingKey: row.routingKey,
      headers: row.headers,
      body: row.body,
      contentType: row.contentType,
      size: bytes,
      priority: row.priority,
      // What is not due is not claimed.
      delayMs: 0,
      ttlMs: row.expiresAt === undefined ? undefined : Math.max(row.expiresAt - clock.now(), 1),
    };
  }

  #sent(claim: HeldClaim, held: HeldRow): void {
    if (!claim.ended(held)) return;
    this.#silent.answered(held.row);
    this.#counts.sent++;
    this.#settle(claim, { position: held.row.position, outcome: "sent" });
    this.#next(claim, held);
  }

  #next(claim: HeldClaim, held: HeldRow): void {
    if (this.#settings.internals.clock.monotonic() >= claim.heldUntil) claim.lost = true;
    // Those behind a row of a lost claim are let go by whoever keeps the lease.
    if (claim.lost || this.#stopped) return;
    const next = held.lane?.shift();
    if (next !== undefined) this.#send(claim, next);
  }

  #failed(claim: HeldClaim, held: HeldRow, cause: unknown): void {
    if (!claim.ended(held)) return;
    const { row } = held;
    const error = isMessagingError(cause)
      ? cause
      : new MessagingError("unconfirmed", `message ${row.id}: the send failed in an unknown way`, { cause });
    if (row.discardUnroutable && error.code === "unroutable") {
      this.#counts.sent++;
      this.#settle(claim, { position: row.position, outcome: "sent" });
      this.#next(claim, held);
    } else if (REFUSALS.has(error.code)) {
      this.#refused(claim, held, error);
    } else {
      this.#unknown(claim, held, error);
    }
  }

  #refused(claim: HeldClaim, held: HeldRow, error: MessagingError): void {
    const { retry, tell } = this.#settings;
    const { id, to, position, ordered } = held.row;
    const attempts = held.row.attempts + 1;
    const about = { id, destination: to.name, attempts, error };
    if (attempts < retry.attempts) {
      const retryMs = retry.delayMs(attempts);
      this.#counts.failed++;
      this.#settle(claim, { position, outcome: "failed", error: outboxError(error), retryInMs: retryMs });
      tell({ type: "failed", ...about, retryMs });
      this.#goOn(claim, held, ordered);
      return;
    }
    this.#quarantine(claim, held, error);
  }

  #quarantine(claim: HeldClaim, held: HeldRow, error: MessagingError, holds = true): void {
    const { onQuarantine, tell } = this.#settings;
    const { id, to, position, ordered, attempts } = held.row;
    const holdsKey = holds && ordered && onQuarantine === "hold";
    this.#counts.quarantined++;
    this.#settle(claim, { position, outcome: "quarantined", error: outboxError(error), holdsKey });
    tell({ type: "quarantined", id, destination: to.name, attempts: attempts + 1, error });
    this.#goOn(claim, held, holdsKey);
  }

  /** Nobody knows whether the broker has it, or it never left: it goes again, before anything behind it. */
  #unknown(claim: HeldClaim, held: HeldRow, error: MessagingError): void {
    this.#watch.look();
    // While the broker is away nothing can be said against the row or its place.
    if (this.#stopped || !this.#watch.brokerTakes) this.#giveBack(claim, held, error);
    else {
      this.#postpone(claim, held, error, Math.ceil(this.#silent.silent(held.row, error)));
      this.#goOn(claim, held, held.row.ordered);
    }
  }

  #giveBack(claim: HeldClaim, held: HeldRow, error: MessagingError): void {
    const { id, to, position } = held.row;
    this.#counts.postponed++;
    this.#settle(claim, { position, outcome: "released" });
    this.#settings.tell({ type: "postponed", id, destination: to.name, retryMs: 0, error });
    this.#goOn(claim, held, true);
  }

  #postpone(claim: HeldClaim, held: HeldRow, error: MessagingError, retryMs: number): void {
    const { id, to, position } = held.row;
    this.#counts.postponed++;
    this.#settle(claim, { position, outcome: "failed", error: outboxError(error), retryInMs: retryMs });
    this.#settings.tell({ type: "postponed", id, destination: to.name, retryMs, error });
  }

  /** Lets a row alone for now; those behind one that was sent need not wait for it. */
  #pass(claim: HeldClaim, held: HeldRow, sent: boolean): void {
    const behind = held.row.ordered && !sent ? claim.takeBehind(held) : [];
    claim.passed(1 + behind.length);
    this.#release(claim, [held, ...behind]);
    this.#next(claim, held);
  }

  #goOn(claim: HeldClaim, held: HeldRow, holds: boolean): void {
    if (holds) this.#release(claim, claim.takeBehind(held));
    else this.#next(claim, held);
  }

  #release(claim: HeldClaim, rows: readonly HeldRow[]): void {
    for (const { row } of rows) this.#settle(claim, { position: row.position, outcome: "released" });
  }
}

function unremoved({ id, position }: OutboxRow): MessagingError {
  return new MessagingError(
    "conflict",
    `message ${id} was sent, and its row ${position} stands in the outbox all the same: the store's database took the settlement and changed nothing. Look for a trigger or a policy that keeps rows from being removed, take it away, and discard the row`,
  );
}

/** As any store can keep it: one that refused the text would refuse the settlements beside it too. */
function outboxError({ code, message }: MessagingError): OutboxError {
  return { code, message: message.slice(0, LONGEST_ERROR).replaceAll("\0", " ").toWellFormed() };
}
