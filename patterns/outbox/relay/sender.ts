import type { OutgoingMessage } from "../../../core/adapter.ts";
import type { Capabilities } from "../../../core/capabilities.ts";
import type { Clock } from "../../../core/clock.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../../core/errors.ts";
import { shownId } from "../../../core/foreign.ts";
import type { Retry } from "../../../core/retry-policy.ts";
import type { RelaySettings, RelayStall, RelayStallCause } from "../relay-options.ts";
import type { OutboxError, OutboxRow, OutboxSettlement } from "../store.ts";
import type { ClaimedRow, RelayClaim, UnchangedRows } from "./settlements.ts";

/** Errors that prove that the broker does not have the message, for a reason of the message or its destination. */
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

/** Numbers of rows by outcome, since the relay was created. */
export interface SendCounts {
  sent: number;
  failed: number;
  quarantined: number;
  postponed: number;
}

/**
 * Sends the rows of claims with the publisher of the broker object, each key in order: a row follows when the broker has
 * confirmed the row before, or when that one failed and does not hold its key.
 */
export class Sender {
  readonly #settings: RelaySettings;
  readonly #watch: StallWatch;
  readonly #counts: SendCounts;
  readonly #settle: (claim: RelayClaim, settlement: OutboxSettlement) => void;
  readonly #silent: SilentDestinations;
  readonly #unchanged: UnchangedRows;
  #stopped = false;

  constructor(
    settings: RelaySettings,
    watch: StallWatch,
    counts: SendCounts,
    unchanged: UnchangedRows,
    settle: (claim: RelayClaim, settlement: OutboxSettlement) => void,
  ) {
    this.#settings = settings;
    this.#watch = watch;
    this.#counts = counts;
    this.#unchanged = unchanged;
    this.#settle = settle;
    this.#silent = new SilentDestinations(settings.internals.clock, settings.retry);
  }

  send(claim: RelayClaim): void {
    for (const claimed of claim.takeHeads()) this.#send(claim, claimed);
  }

  /** Begins no more sends, and releases the rows that wait. */
  stop(claims: Iterable<RelayClaim>): void {
    this.#stopped = true;
    for (const claim of claims) this.#release(claim, claim.takeWaiting());
  }

  /** Releases the rows in flight: they may be sent twice, under their ids. */
  abandon(claims: Iterable<RelayClaim>): void {
    for (const claim of claims) this.#release(claim, claim.takeSending());
  }

  #send(claim: RelayClaim, claimed: ClaimedRow): void {
    const { internals } = this.#settings;
    claim.began(claimed);
    const unfit = claimed.row.unreadable ?? strangePriority(claimed.row, internals.adapter.capabilities);
    if (unfit !== undefined) {
      if (claim.ended(claimed)) this.#quarantine(claim, claimed, unfit);
      return;
    }
    const unchanged = this.#unchanged.check(claimed.row);
    if (unchanged !== undefined) {
      claim.ended(claimed);
      if (unchanged.waits) this.#skip(claim, claimed, unchanged.sent);
      else this.#quarantine(claim, claimed, unremoved(claimed.row), false);
      return;
    }
    const delay = this.#silent.delay(claimed.row);
    if (delay !== undefined) {
      claim.ended(claimed);
      // The rows behind it have the same destination.
      const behind = claimed.row.ordered ? [] : claim.takeBehind(claimed);
      for (const each of [claimed, ...behind]) this.#postpone(claim, each, delay.error, delay.retryMs);
      if (claimed.row.ordered) this.#release(claim, claim.takeBehind(claimed));
      return;
    }
    internals.sendCopy(claimed.row.to, claimed.row.ordered, this.#message(claimed)).then(
      () => this.#sent(claim, claimed),
      (error: unknown) => this.#failed(claim, claimed, error),
    );
  }

  #message({ row, bytes }: ClaimedRow): OutgoingMessage {
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
      // Claimed rows are due.
      delayMs: 0,
      ttlMs: row.expiresAt === undefined ? undefined : Math.max(row.expiresAt - clock.now(), 1),
    };
  }

  #sent(claim: RelayClaim, claimed: ClaimedRow): void {
    if (!claim.ended(claimed)) return;
    this.#silent.answered(claimed.row);
    this.#counts.sent++;
    this.#settle(claim, { position: claimed.row.position, outcome: "sent" });
    this.#next(claim, claimed);
  }

  #next(claim: RelayClaim, claimed: ClaimedRow): void {
    if (this.#settings.internals.clock.monotonic() >= claim.heldUntil) claim.lost = true;
    // `Leases` gives up the waiting rows of a lost claim.
    if (claim.lost || this.#stopped) return;
    const next = claimed.behind?.shift();
    if (next !== undefined) this.#send(claim, next);
  }

  #failed(claim: RelayClaim, claimed: ClaimedRow, cause: unknown): void {
    if (!claim.ended(claimed)) return;
    const { row } = claimed;
    const error = isMessagingError(cause)
      ? cause
      : new MessagingError("unconfirmed", `message ${shownId(row.id)}: the send failed with an unknown error`, {
          cause,
        });
    if (row.discardUnroutable && error.code === "unroutable") {
      this.#counts.sent++;
      this.#settle(claim, { position: row.position, outcome: "sent" });
      this.#next(claim, claimed);
    } else if (REFUSALS.has(error.code)) {
      this.#refused(claim, claimed, error);
    } else {
      this.#unknown(claim, claimed, error);
    }
  }

  #refused(claim: RelayClaim, claimed: ClaimedRow, error: MessagingError): void {
    const { retry, emit } = this.#settings;
    const { id, to, position, ordered } = claimed.row;
    const attempts = claimed.row.attempts + 1;
    if (attempts >= retry.attempts) {
      this.#quarantine(claim, claimed, error);
      return;
    }
    const retryMs = retry.delayMs(attempts);
    this.#counts.failed++;
    this.#settle(claim, { position, outcome: "failed", error: outboxError(error), retryInMs: retryMs });
    emit({ type: "failed", id, destination: to.name, attempts, error, retryMs });
    this.#continue(claim, claimed, ordered);
  }

  #quarantine(claim: RelayClaim, claimed: ClaimedRow, error: MessagingError, holds = true): void {
    const { onQuarantine, emit } = this.#settings;
    const { id, to, position, ordered, attempts } = claimed.row;
    const holdsKey = holds && ordered && onQuarantine === "hold";
    this.#counts.quarantined++;
    this.#settle(claim, { position, outcome: "quarantined", error: outboxError(error), holdsKey });
    emit({ type: "quarantined", id, destination: to.name, attempts: attempts + 1, error });
    this.#continue(claim, claimed, holdsKey);
  }

  /** The broker may have the message: the relay sends it again, before the rows behind it. */
  #unknown(claim: RelayClaim, claimed: ClaimedRow, error: MessagingError): void {
    this.#watch.check();
    // While the broker is down, the row and its destination may be fine.
    const isDown = this.#stopped || !this.#watch.brokerAccepts;
    this.#postpone(claim, claimed, error, isDown ? undefined : Math.ceil(this.#silent.failed(claimed.row, error)));
    this.#continue(claim, claimed, isDown || claimed.row.ordered);
  }

  /** Retries a row after a delay, or releases it without one. */
  #postpone(claim: RelayClaim, claimed: ClaimedRow, error: MessagingError, retryMs?: number): void {
    const { id, to, position } = claimed.row;
    this.#counts.postponed++;
    if (retryMs === undefined) this.#release(claim, [claimed]);
    else this.#settle(claim, { position, outcome: "failed", error: outboxError(error), retryInMs: retryMs });
    this.#settings.emit({ type: "postponed", id, destination: to.name, retryMs: retryMs ?? 0, error });
  }

  /** Skips a row for now. Rows behind a sent row need not wait for it. */
  #skip(claim: RelayClaim, claimed: ClaimedRow, sent: boolean): void {
    const behind = claimed.row.ordered && !sent ? claim.takeBehind(claimed) : [];
    claim.skipped(1 + behind.length);
    this.#release(claim, [claimed, ...behind]);
    this.#next(claim, claimed);
  }

  #continue(claim: RelayClaim, claimed: ClaimedRow, holds: boolean): void {
    if (holds) this.#release(claim, claim.takeBehind(claimed));
    else this.#next(claim, claimed);
  }

  #release(claim: RelayClaim, rows: readonly ClaimedRow[]): void {
    for (const { row } of rows) this.#settle(claim, { position: row.position, outcome: "released" });
  }
}

function unremoved({ id, position }: OutboxRow): MessagingError {
  return new MessagingError(
    "conflict",
    `message ${shownId(id)} was sent, but its row ${position} is still in the outbox: the database accepted the settlement and changed nothing. Look for a trigger or a policy that keeps rows from being removed, drop it, and discard the row`,
  );
}

/** Makes a text that every store can keep. A refused text would fail the other settlements of its batch. */
function outboxError({ code, message }: MessagingError): OutboxError {
  return { code, message: message.slice(0, LONGEST_ERROR).replaceAll("\0", " ").toWellFormed() };
}

/** A destination whose sends got no answer. */
interface Silence {
  failures: number;
  /** The next try is not before. */
  until: number;
  error: MessagingError;
}

/**
 * Destinations whose sends get no answer although the broker is connected. The relay postpones their rows and tries one at a
 * time, so that they do not fill its memory.
 */
class SilentDestinations {
  readonly #clock: Clock;
  readonly #retry: Retry;
  readonly #silences = new Map<string, Silence>();

  constructor(clock: Clock, retry: Retry) {
    this.#clock = clock;
    this.#retry = retry;
  }

  /** A send got no answer. Returns the delay before the next try, in milliseconds. */
  failed(row: OutboxRow, error: MessagingError): number {
    const now = this.#clock.monotonic();
    const silence = this.#silences.get(destinationOf(row)) ?? { failures: 0, until: now, error };
    this.#silences.set(destinationOf(row), silence);
    silence.error = error;
    // Concurrent sends fail together, and count once.
    if (now >= silence.until) silence.until = now + this.#retry.delayMs(++silence.failures);
    return silence.until - now;
  }

  answered(row: OutboxRow): void {
    if (this.#silences.size > 0) this.#silences.delete(destinationOf(row));
  }

  /** How long a row has to wait, and why; undefined for a row to try. */
  delay(row: OutboxRow): { readonly retryMs: number; readonly error: MessagingError } | undefined {
    const silence = this.#silences.size === 0 ? undefined : this.#silences.get(destinationOf(row));
    if (silence === undefined) return undefined;
    const now = this.#clock.monotonic();
    const { until, error, failures } = silence;
    if (now < until) return { retryMs: Math.ceil(until - now), error };
    silence.until = now + this.#retry.delayMs(failures);
    return undefined;
  }
}

function destinationOf({ to }: OutboxRow): string {
  return `${to.kind} ${to.name}`;
}

/** Why a row is not sent for its priority: others may have written it. A broker without priorities passes over it. */
function strangePriority({ position, priority }: OutboxRow, capabilities: Capabilities): MessagingError | undefined {
  const { support, levels } = capabilities.priority;
  if (support === "unsupported" || (Number.isInteger(priority) && priority >= 0 && priority < levels)) return undefined;
  return new MessagingError(
    "invalid",
    `row ${position} of the outbox has the priority ${String(priority)}, and the broker has the priorities 0 to ${levels - 1}. It was not sent; mend that, and retry the row`,
  );
}

/** Knows why a relay cannot send, and emits changes. */
export class StallWatch {
  readonly #settings: RelaySettings;
  readonly #storeFailure: () => unknown;
  #current: { readonly cause: RelayStallCause; readonly since: number; readonly error: unknown } | undefined;

  constructor(settings: RelaySettings, storeFailure: () => unknown) {
    this.#settings = settings;
    this.#storeFailure = storeFailure;
  }

  get stall(): RelayStall | undefined {
    if (this.#current === undefined) return undefined;
    const { cause, since, error } = this.#current;
    return { cause, ageMs: Math.floor(this.#settings.internals.clock.monotonic() - since), error };
  }

  /** Whether the broker accepts messages, by its last status. */
  get brokerAccepts(): boolean {
    return this.#brokerStall() === undefined;
  }

  /** Checks the broker and the store again. */
  check(): void {
    const failure = this.#storeFailure();
    const found =
      this.#brokerStall() ?? (failure === undefined ? undefined : { cause: "store-down" as const, error: failure });
    if (found?.cause === this.#current?.cause) return;
    const { internals, emit } = this.#settings;
    this.#current = found === undefined ? undefined : { ...found, since: internals.clock.monotonic() };
    emit(found === undefined ? { type: "flowing" } : { type: "stalled", ...found });
  }

  #brokerStall(): { readonly cause: RelayStallCause; readonly error: MessagingError } | undefined {
    const { broker, internals } = this.#settings;
    const { state, connected, blocked } = broker.status();
    const { name } = internals.adapter;
    if (state !== "started") {
      return {
        cause: "broker-closed",
        error: new MessagingError("closed", `the broker object on ${name} is not started; call its start()`),
      };
    }
    if (!connected) {
      return {
        cause: "broker-down",
        error: new MessagingError("unreachable", `${name} is not connected; the relay waits for it`),
      };
    }
    if (blocked === undefined) return undefined;
    return {
      cause: "broker-blocked",
      error: new MessagingError("overloaded", `${name} accepts no messages for now: ${blocked}; the relay waits`),
    };
  }
}
