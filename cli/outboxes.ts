import type { OutboxStore, QuarantinedRow } from "../patterns/outbox/index.ts";
import { CommandError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";

/** An outbox of the configuration. */
export interface NamedOutbox {
  readonly name: string;
  readonly store: OutboxStore;
}

/** How `outbox` commands say which. */
export const OUTBOX = { type: "string", describe: "Which one, if the configuration has several" } as const;

/** How every `outbox` command may end. */
export const OUTBOX_EXITS = {
  unavailable: "",
  "not-allowed": "",
  "not-found": "also: there are no tables of an outbox",
} as const;

/** All outboxes of the configuration, or the one that was named. Throws a `CommandError` if there are none. */
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
  throw new CommandError("usage", `no outbox is called ${name}: there are ${all.map((one) => one.name).join(", ")}`);
}

/** The one outbox that a command works on. Throws a `CommandError` if it has to be named. */
export function oneOutbox(frame: Frame, name: string | undefined): NamedOutbox {
  const [first, ...others] = outboxesOf(frame, name);
  if (first !== undefined && others.length === 0) return first;
  throw new CommandError("usage", `there are several outboxes: name one by --outbox`);
}

const PAGE = 500;

/** Every quarantined row, in pages. */
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

/** The positions that were given. Throws a `CommandError` for what is none. */
export function positionsOf(given: readonly string[]): readonly number[] {
  return given.map((text) => {
    const position = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(position)) return position;
    throw new CommandError("usage", `"${text}" is no position of a row: "anybroker outbox status" lists them`);
  });
}
