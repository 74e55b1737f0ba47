/** The options of `report`. */
export interface ReportOptions {
  /** The most ids shown for each kind of difference of each source. Default 100. */
  readonly limit?: number;
  /** Whether to look at the dead letters of both brokers, so that what stands there is not missing. Default true. */
  readonly deadLetters?: boolean;
}

/** Whether every id that went in was handled. */
export interface ParityReport {
  readonly name: string;
  /** ISO time, the store's. */
  readonly at: string;
  /**
   * - `equal`: what was published was handled or stands in the dead letters, of every source.
   * - `different`: something is missing; look again while messages are still on their way.
   * - `waived`: ids are not journaled.
   */
  readonly verdict: "equal" | "different" | "waived";
  readonly sources: readonly SourceParity[];
}

/** The parity of one queue or subscription. */
export interface SourceParity {
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  /** Ids whose send was confirmed. */
  readonly published: number;
  /** Ids whose handler succeeded. */
  readonly handled: number;
  /** Ids that were published, and neither handled nor found in the dead letters. */
  readonly missing: Ids;
  /** Ids that stand in the dead letters. */
  readonly dead: Ids;
  /**
   * Ids that were handled, and not published as far as the journal knows: from before the migration, of other publishers, or
   * of a publisher that died before it could tell its caller. No loss.
   */
  readonly unexpected: Ids;
  /** How much stands on both brokers, unsettled included; undefined where it could not be asked. */
  readonly remaining: { readonly from: number | undefined; readonly to: number | undefined };
}

/** How many, and which: the first of them by their characters, up to the limit. */
export interface Ids {
  readonly count: number;
  readonly ids: readonly string[];
}
