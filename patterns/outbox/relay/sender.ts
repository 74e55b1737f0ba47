import type { OutgoingMessage } from "../../../core/adapter.ts";
import type { Capabilities } from "../../../core/capabilities.ts";
import type { Clock, Random } from "../../../core/clock.ts";
import { isMessagingError, MessagingError, type MessagingErrorCode } from "../../../core/index.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import { headerBytes } from "../../../core/system-headers.ts";
import type { RelaySettings } from "../relay-options.ts";
import type { OutboxClaim, OutboxError, OutboxRow, OutboxSettlement } from "../store.ts";
import type { StallWatch } from "./stall-watch.ts";
import { SilentPlaces } from "./stall-watch.ts";

/** Something that wants a turn. */
export interface Waiter {
  /** How much it would do with it. */
  readonly size: number;
  /** Takes its turn; resolves when it is over. Never rejects. */
  take(): Promise<void>;
}

/** Lets a few at a time have a turn; of those that wait, the one with the most to do is next, so that batches grow. */
export class Turns {
  readonly #most: number;
  readonly #waiting = new Set<Waiter>();
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Asks for a turn. A second time while it waits changes nothing. */
  ask(waiter: Waiter): void {
    this.#waiting.add(waiter);
    this.#next();
  }

  /** It wants no turn any more. */
  leave(waiter: Waiter): void {
    this.#waiting.delete(waiter);
  }

  #next(): void {
    while (this.#taken < this.#most && this.#waiting.size > 0) {
      let next: Waiter | undefined;
      for (const waiter of this.#waiting) if (next === undefined || waiter.size > next.size) next = waiter;
      if (next === undefined) return;
      this.#waiting.delete(next);
      this.#taken++;
      void next.take().then(() => {
        this.#taken--;
        this.#next();
      });
    }
  }
}

const BACKOFF = { firstMs: 1_000, maxMs: 60_000 };
/** Most of them are gone, and were settled by others. */
const MOST_KNOWN = 10_000;

interface Unchanged {
  readonly id: string;
  /** Whether the broker has it. */
  readonly sent: boolean;
  readonly failures: number;
  /** Until when it is let alone, by the monotonic clock. */
  readonly until: number;
}

/**
 * Rows whose settlement changed nothing. Most are no more ours, or gone. One that comes in a claim again stands there
 * although the store was told what became of it, as where a trigger keeps it from removing rows.
 */
export class UnchangedRows {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #rows = new Map<number, Unchanged>();

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** The store was told, and changed the row or not. */
  settled({ position, outcome }: OutboxSettlement, id: string, changed: boolean): void {
    if (outcome === "released") return;
    const before = this.#known(position, id);
    this.#rows.delete(position);
    if (changed) return;
    const failures = before === undefined ? 1 : before.failures + 1;
    const sent = outcome === "sent" || before?.sent === true;
    // What was sent once can be quarantined at once.
    const waitMs = before === undefined && sent ? 0 : backoffMs(failures, BACKOFF, this.#random);
    this.#rows.set(position, { id, sent, failures, until: this.#clock.monotonic() + waitMs });
    if (this.#rows.size > MOST_KNOWN) for (const oldest of this.#rows.keys()) return void this.#rows.delete(oldest);
  }

  /** Whether a row that was claimed was sent before, and whether it is to be let alone; undefined if it is like any other. */
  look({ position, id }: OutboxRow): { readonly sent: boolean; readonly waits: boolean } | undefined {
    const known = this.#rows.size === 0 ? undefined : this.#known(position, id);
    if (known === undefined) return undefined;
    const waits = this.#clock.monotonic() < known.until;
    return waits || known.sent ? { sent: known.sent, waits } : undefined;
  }

  #known(position: number, id: string): Unchanged | undefined {
    const known = this.#rows.get(position);
    return known?.id === id ? known : undefined;
  }
}

/** A row of a claim, while it is neither sent nor let go. */
interface HeldRow {
  readonly row: OutboxRow;
  /** Its body and headers. */
  readonly bytes: number;
  /** Those that wait behind it and each other; undefined where nothing does. */
  readonly shard: HeldRow[] | undefined;
}

/**
 * The rows of one claim, until they are settled. Of each key one is on its way at a time, in the order of the claim; no
 * other claim holds rows of that key meanwhile, by the contract of stores.
 */
export class HeldClaim {
  readonly token: string;
  /** What is neither sent nor let go. */
  bytes = 0;
  /** Until when it is surely ours, by the monotonic clock. */
  heldUntil: number;
  /** Whether others may have it: nothing is begun any more. */
  lost = false;
  readonly #shards = new Map<string, HeldRow[]>();
  #heads: HeldRow[] = [];
  /** The ids of what is not settled, by position. */
  readonly #unsettled = new Map<number, string>();
  readonly #count: number;
  #passed = 0;
  readonly #sending = new Set<HeldRow>();

  constructor({ token, rows }: OutboxClaim, heldUntil: number) {
    this.token = token;
    this.heldUntil = heldUntil;
    this.#count = rows.length;
    for (const row of rows) this.#add(row);
  }

  #add(row: OutboxRow): void {
    const bytes = row.body.length + headerBytes(row.headers);
    this.bytes += bytes;
    this.#unsettled.set(row.position, row.id);
    const name = row.key === undefined ? undefined : `${row.to.kind} ${row.to.name} ${row.key}`;
    const behind = name === undefined ? undefined : this.#shards.get(name);
    const shard = behind ?? (name === undefined ? undefined : []);
    const held = { row, bytes, shard };
    if (behind !== undefined) {
      behind.push(held);
      return;
    }
    this.#heads.push(held);
    if (name !== undefined && shard !== undefined) this.#shards.set(name, shard);
  }

  /** How many rows are not settled. */
  get size(): number {
    return this.#unsettled.size;
  }

  /** Whether it held nothing but what was passed over. */
  get isFruitless(): boolean {
    return this.#passed > 0 && this.#passed === this.#count;
  }

  /** So many rows are let alone for a while. */
  passed(count: number): void {
    this.#passed += count;
  }

  /** The id of a row that is not settled. */
  idOf(position: number): string | undefined {
    return this.#unsettled.get(position);
  }

  get sending(): number {
    return this.#sending.size;
  }

  /** The first of each key and all without one, in the order of the claim. Once. */
  takeHeads(): readonly HeldRow[] {
    const heads = this.#heads;
    this.#heads = [];
    return heads;
  }

  began(held: HeldRow): void {
    this.#sending.add(held);
  }

  /** It is known what became of it. False if it was let go before. */
  ended(held: HeldRow): boolean {
    if (!this.#sending.delete(held)) return false;
    this.bytes -= held.bytes;
    return true;
  }

  /** Takes away all that wait behind the row in its key. */
  takeBehind({ shard }: HeldRow): readonly HeldRow[] {
    return this.#letGo(shard?.splice(0) ?? []);
  }

  /** Takes away everything that was not begun. */
  takeWaiting(): readonly HeldRow[] {
    return this.#letGo([...this.takeHeads(), ...[...this.#shards.values()].flatMap((shard) => shard.splice(0))]);
  }

  /** Takes away what is on its way: nobody waits for its end any more. */
  takeSending(): readonly HeldRow[] {
    const held = [...this.#sending];
    this.#sending.clear();
    return this.#letGo(held);
  }

  #letGo(rows: readonly HeldRow[]): readonly HeldRow[] {
    for (const { bytes } of rows) this.bytes -= bytes;
    return rows;
  }

  /** The store was told what became of it, or need not be. */
  settled(position: number): void {
    this.#unsettled.delete(position);
  }
}

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
    const unfit = held.row.unreadable ?? strangePriority(held.row, internals.adapter.capabilities);
    if (unfit !== undefined) {
      if (claim.ended(held)) this.#quarantine(claim, held, unfit);
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
    const next = held.shard?.shift();
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

/** Why a row is not sent for its priority: others may have written it. A broker without priorities passes over it. */
function strangePriority({ position, priority }: OutboxRow, capabilities: Capabilities): MessagingError | undefined {
  const { support, levels } = capabilities.priority;
  if (support === "unsupported" || (Number.isInteger(priority) && priority >= 0 && priority < levels)) return undefined;
  return new MessagingError(
    "invalid",
    `row ${position} of the outbox has the priority ${String(priority)}, and the broker has the priorities 0 to ${levels - 1}. It was not sent; mend that, and retry the row`,
  );
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
