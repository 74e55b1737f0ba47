import type { Timer } from "../../../core/clock.ts";
import type { RelaySettings } from "../relay-options.ts";
import type { HeldClaim } from "./held-claim.ts";
import type { StoreCalls } from "./store-calls.ts";

/** Leases are renewed three times before they end. */
const RENEWALS = 3;

/** Renews the leases of all claims for as long as they are held; what is lost all the same is let go. */
export class Leases {
  readonly #settings: RelaySettings;
  readonly #calls: StoreCalls;
  readonly #claims: () => Iterable<HeldClaim>;
  readonly #lost: (claim: HeldClaim, count: number) => void;
  readonly #renewing = new Set<HeldClaim>();
  #timer: Timer | undefined;

  /** `lost` is told of each lost claim, with how many of its rows will not be sent by us. */
  constructor(
    settings: RelaySettings,
    calls: StoreCalls,
    claims: () => Iterable<HeldClaim>,
    lost: (claim: HeldClaim, count: number) => void,
  ) {
    this.#settings = settings;
    this.#calls = calls;
    this.#claims = claims;
    this.#lost = lost;
  }

  start(): void {
    this.#timer = this.#settings.internals.clock.schedule(() => {
      for (const claim of [...this.#claims()]) void this.#keep(claim);
      this.start();
    }, this.#settings.leaseMs / RENEWALS);
  }

  stop(): void {
    if (this.#timer !== undefined) this.#settings.internals.clock.cancel(this.#timer);
    this.#timer = undefined;
  }

  async #keep(claim: HeldClaim): Promise<void> {
    const { clock } = this.#settings.internals;
    if (clock.monotonic() >= claim.heldUntil) this.#letGo(claim);
    if (claim.lost) this.#letGo(claim);
    if (claim.lost || this.#renewing.has(claim)) return;
    this.#renewing.add(claim);
    // The lease begins while the call is under way, not before it.
    const begun = clock.monotonic();
    const answer = await this.#calls.renew(claim.token);
    this.#renewing.delete(claim);
    if ("error" in answer) return;
    if (answer.value === "renewed") claim.heldUntil = begun + this.#settings.leaseMs;
    else if (claim.size > 0) this.#letGo(claim);
  }

  #letGo(claim: HeldClaim): void {
    claim.lost = true;
    const rows = claim.takeWaiting();
    // Nobody has to be told: they come again by themselves.
    for (const { row } of rows) claim.settled(row.position);
    this.#lost(claim, rows.length);
  }
}
