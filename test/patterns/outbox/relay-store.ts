import type { Clock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type {
  NewOutboxRow,
  OutboxClaim,
  OutboxClaimRequest,
  OutboxError,
  OutboxHealth,
  OutboxRow,
  OutboxSettlement,
  OutboxStore,
  QuarantinedRow,
} from "../../../patterns/outbox/store.ts";

interface Kept {
  row: OutboxRow;
  dueAt: number;
  attempts: number;
  state: "unsent" | "sent" | "quarantined";
  token: string | undefined;
  failed: boolean;
  error: OutboxError | undefined;
  holdsKey: boolean;
}

const keyOf = ({ row: { to, key, position } }: Kept): string =>
  key === undefined ? `#${position}` : `${to.kind} ${to.name} ${key}`;

/** An outbox in memory that keeps to the contract word for word, and looks after it: a test of relays, not of stores. */
export class FakeOutbox implements OutboxStore<undefined> {
  readonly name = "fake";
  readonly rows: Kept[] = [];
  /** Positions in the order in which they were settled as sent. */
  readonly sent: number[] = [];
  /** The most rows that were claimed at once by one token. */
  claims = 0;
  wakes: (() => void)[] = [];
  readonly #clock: Clock;
  readonly #leases = new Map<string, number>();
  #position = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  insert(_transaction: undefined, rows: readonly NewOutboxRow[]): void {
    for (const { delayMs, ...row } of rows) this.commit({ ...row, delayMs, position: this.take() });
    for (const wake of this.wakes) wake();
  }

  /** A position, for a row that commits later. */
  take(): number {
    return ++this.#position;
  }

  commit({ delayMs, ...row }: NewOutboxRow & { readonly position: number }): void {
    const now = this.#clock.now();
    this.rows.push({
      row: { ...row, attempts: 0, createdAt: now },
      dueAt: now + delayMs,
      attempts: 0,
      state: "unsent",
      token: undefined,
      failed: false,
      error: undefined,
      holdsKey: false,
    });
    this.rows.sort((one, other) => one.row.position - other.row.position);
  }

  #isClaimed({ token }: Kept): boolean {
    return token !== undefined && (this.#leases.get(token) ?? 0) > this.#clock.now();
  }

  #holds(kept: Kept): boolean {
    if (!kept.row.ordered) return false;
    return (kept.state === "quarantined" && kept.holdsKey) || (kept.failed && kept.dueAt > this.#clock.now());
  }

  async claim({ limit, leaseMs }: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    this.claims++;
    const now = this.#clock.now();
    const shut = new Set<string>();
    for (const kept of this.rows) if (kept.state === "unsent" && this.#isClaimed(kept)) shut.add(keyOf(kept));
    const taken: Kept[] = [];
    for (const kept of this.rows) {
      if (taken.length === limit) break;
      if (this.#holds(kept)) shut.add(keyOf(kept));
      if (kept.state === "unsent" && kept.dueAt <= now && !shut.has(keyOf(kept))) taken.push(kept);
    }
    if (taken.length === 0) return undefined;
    const token = `token-${this.claims}`;
    this.#leases.set(token, now + leaseMs);
    for (const kept of taken) kept.token = token;
    return { token, rows: taken.map(({ row, attempts }) => ({ ...row, attempts })) };
  }

  async renew(token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const until = this.#leases.get(token);
    if (until === undefined || until <= this.#clock.now()) return "lost";
    this.#leases.set(token, this.#clock.now() + leaseMs);
    return "renewed";
  }

  async settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]> {
    const positions = settlements.map(({ position }) => position);
    if (new Set(positions).size < positions.length) throw new MessagingError("invalid", "a row is settled once");
    return settlements.filter((settlement) => !this.#settle(token, settlement)).map(({ position }) => position);
  }

  #settle(token: string, settlement: OutboxSettlement): boolean {
    const kept = this.rows.find(({ row }) => row.position === settlement.position);
    if (kept?.state !== "unsent") return false;
    if (settlement.outcome === "sent") {
      kept.state = "sent";
      kept.token = undefined;
      this.sent.push(settlement.position);
      return true;
    }
    if (kept.token !== token) return false;
    kept.token = undefined;
    kept.failed = settlement.outcome !== "released" && kept.row.ordered;
    if (settlement.outcome === "released") return true;
    kept.attempts++;
    kept.error = settlement.error;
    if (settlement.outcome === "failed") {
      kept.dueAt = this.#clock.now() + settlement.retryInMs;
    } else {
      kept.state = "quarantined";
      kept.holdsKey = settlement.holdsKey;
    }
    return true;
  }

  async listQuarantined(): Promise<readonly QuarantinedRow[]> {
    return this.rows
      .filter(({ state }) => state === "quarantined")
      .map(({ row, attempts, error, holdsKey }) => ({
        ...row,
        attempts,
        error: error ?? { code: "", message: "" },
        quarantinedAt: 0,
        holdsKey,
      }));
  }

  async retryQuarantined(positions: readonly number[]): Promise<readonly number[]> {
    const found = this.rows.filter(({ row, state }) => state === "quarantined" && positions.includes(row.position));
    for (const kept of found) Object.assign(kept, { state: "unsent", attempts: 0, failed: false, dueAt: 0 });
    return found.map(({ row }) => row.position);
  }

  async discardQuarantined(): Promise<readonly number[]> {
    return [];
  }

  async clean(limit: number): Promise<number> {
    const sent = this.rows.filter(({ state }) => state === "sent").slice(0, limit);
    for (const kept of sent) this.rows.splice(this.rows.indexOf(kept), 1);
    return sent.length;
  }

  async health(): Promise<OutboxHealth> {
    const unsent = this.rows.filter(({ state }) => state === "unsent");
    const now = this.#clock.now();
    const ages = unsent.filter(({ dueAt }) => dueAt <= now).map(({ dueAt }) => Math.max(now - dueAt, 1));
    const held = this.rows.filter((kept) => kept.state === "quarantined" && this.#holds(kept));
    const behind = unsent.some((kept) => held.some((holder) => keyOf(holder) === keyOf(kept)));
    return {
      unsent: unsent.length,
      oldestUnsentMs: Math.max(0, ...ages),
      quarantined: this.rows.filter(({ state }) => state === "quarantined").length,
      stalls: behind ? [{ cause: "held-key", ageMs: 0, message: "rows wait behind a quarantined one" }] : [],
    };
  }

  readonly listen = async (wake: () => void): Promise<() => Promise<void>> => {
    this.wakes.push(wake);
    return async () => {
      this.wakes = this.wakes.filter((other) => other !== wake);
    };
  };
}
