import type { OutboxStore, QuarantinedRow } from "../patterns/outbox/index.ts";
import { CommandError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";

/** An outbox of the configuration. */
export interface NamedOutbox {
  readonly name: string;
  readonly store: OutboxStore;
}

/** The option that names an outbox. */
export const OUTBOX = { type: "string", describe: "Which one, if the configuration has several" } as const;

/** The exits of every `outbox` command. */
export const OUTBOX_EXITS = {
  unavailable: "",
  "not-allowed": "",
  "not-found": "also: there are no tables of an outbox",
} as const;

/** All outboxes of the configuration, or the named one. Throws a `CommandError` if there are none. */
export function outboxesOf({ configuration }: Frame, name: string | undefined): readonly NamedOutbox[] {
  const all = Object.entries(configuration.outboxes ?? {}).map(([known, store]) => ({ name: known, store }));
  if (all.length === 0) {
    throw new CommandError(
      "usage",
      "no outbox is configured: write anybroker.config.ts with outboxes: { orders: postgresOutbox(pool) }",
    );
  }
  const wanted = name === undefined ? all : all.filter((one) => one.name === name);
  if (wanted.length > 0) return wanted;
  throw new CommandError("usage", `there is no outbox ${name}; there are ${all.map((one) => one.name).join(", ")}`);
}

/** The one outbox of a command. Throws a `CommandError` if it must be named. */
export function oneOutbox(frame: Frame, name: string | undefined): NamedOutbox {
  const [first, ...others] = outboxesOf(frame, name);
  if (first !== undefined && others.length === 0) return first;
  throw new CommandError("usage", "there are several outboxes: name one with --outbox");
}

const PAGE = 500;

/** Yields all quarantined rows, in pages. */
export async function* quarantinedRows(store: OutboxStore): AsyncGenerator<readonly QuarantinedRow[], void, undefined> {
  let after: number | undefined;
  for (;;) {
    const rows = await store.listQuarantined({ limit: PAGE, ...(after === undefined ? {} : { after }) });
    const last = rows.at(-1);
    if (last === undefined) return;
    yield rows;
    after = last.position;
  }
}

/** Parses positions of rows. Throws a `CommandError`. */
export function positionsOf(given: readonly string[]): readonly number[] {
  return given.map((text) => {
    const position = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(position)) return position;
    throw new CommandError("usage", `"${text}" is no position of a row; list them with "anybroker outbox status"`);
  });
}
