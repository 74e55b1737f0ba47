/** The state of what a migration finds there already, with no version noted: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const DUPLICATE_TABLE = "42P07";

/** What a migration raises if the tables are of a version that it does not know. */
export const NEWER = "AB001";

/** The tables of an outbox or inbox over its versions. A version that was released never changes. */
export class Versions {
  readonly #table: string;
  readonly #steps: readonly (readonly string[])[];
  readonly #always: string;

  /**
   * The table that notes the versions, quoted, and the statements of each version; the first is of version 1. `always` are
   * statements of PL/pgSQL that each migration ends with.
   */
  constructor(table: string, steps: readonly (readonly string[])[], always = "") {
    this.#table = table;
    this.#always = always;
    const made = `CREATE TABLE ${table} (
  version integer PRIMARY KEY,
  reached_at timestamptz NOT NULL DEFAULT now()
)`;
    this.#steps = steps.map((statements, index) => [
      ...(index === 0 ? [made] : []),
      ...statements,
      `INSERT INTO ${table} (version) VALUES (${index + 1})`,
    ]);
  }

  /** The number of the last. */
  get last(): number {
    return this.#steps.length;
  }

  /** The statements that lead from a version to the last one. */
  from(version: number): readonly string[] {
    return this.#steps.slice(version).flat();
  }

  /** One statement that leads from whichever version there is to the last one; of several at once the later find it done. */
  migration(): string {
    const steps = this.#steps.map(
      (statements, index) => `
  IF reached < ${index + 1} THEN
    ${statements.join(";\n    ")};
  END IF;`,
    );
    return `
DO $migration$
DECLARE reached integer := 0;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('anybroker_outbox', 0));
  IF to_regclass('${this.#table}') IS NOT NULL THEN
    SELECT coalesce(max(version), 0) INTO reached FROM ${this.#table};
  END IF;
  IF reached > ${this.last} THEN
    RAISE EXCEPTION 'of version %', reached USING ERRCODE = '${NEWER}';
  END IF;${steps.join("")}${this.#always}
END $migration$`;
  }
}
