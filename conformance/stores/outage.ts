/** Takes the database from its users, who keep their connections or lose them, and gives it back. */
export interface Outage {
  /** From its resolution on the database does not answer, or refuses. */
  begin(): Promise<void>;
  /** Resolves when the database takes connections again. A second call does nothing. */
  end(): Promise<void>;
  /** Whether what only reads is answered nevertheless. Default false. */
  readonly answersReads?: boolean;
}
