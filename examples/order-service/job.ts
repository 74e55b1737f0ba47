/** The parts of the service. */
export type Role = "shop" | "billing";

/** What a part is told: plain data, so that it can be told to another process. */
export interface Job {
  readonly run: string;
  readonly role: Role;
  /** The URL of a Postgres, or a file. */
  readonly database: string;
  readonly tallyFile: string;
  /** Where a shop that is a process says its URL. */
  readonly urlFile: string;
  /** Whether events go by the outbox, or to the broker after the commit. */
  readonly outbox: boolean;
  /** Whether billing has an inbox. */
  readonly inbox: boolean;
}

/** A part that works. */
export interface RunningPart {
  /** Lets it finish what it has begun. */
  stop(): Promise<void>;
  /** Cuts it off from everything, at once. */
  cutOff(): Promise<void>;
}
