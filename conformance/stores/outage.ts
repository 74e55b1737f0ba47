/** Makes the database unavailable for a while. Connections may stay open or break. */
export interface Outage {
  /** Resolves when the database refuses or does not answer. */
  begin(): Promise<void>;
  /** Resolves when the database accepts connections again. A second call does nothing. */
  end(): Promise<void>;
  /** Whether reads are answered meanwhile. Default false. */
  readonly answersReads?: boolean;
}
