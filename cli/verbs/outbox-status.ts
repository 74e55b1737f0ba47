import type { OutboxHealth, QuarantinedRow } from "../../patterns/outbox/index.ts";
import { columns } from "../columns.ts";
import type { Frame } from "../frame.ts";
import { type NamedOutbox, OUTBOX, OUTBOX_EXITS, outboxesOf } from "../outboxes.ts";
import { preview } from "../terminal.ts";
import { verb } from "../verb.ts";

const LONGEST_ERROR = 80;

/** The JSON of an outbox. */
interface Status extends OutboxHealth {
  readonly outbox: string;
  readonly store: string;
  readonly rows: readonly object[];
}

export const outboxStatus = verb({
  name: "outbox status",
  summary: "How the outboxes are, and what is quarantined",
  teaches: `Shows how many rows are unsent, how long the oldest is due, why it waits, and the quarantined rows with their errors. Shows no bodies and headers.`,
  positionals: {},
  options: {
    outbox: OUTBOX,
    limit: { type: "number", default: 20, describe: "The most quarantined rows to list" },
  },
  examples: [["outbox status", "all outboxes of the configuration"]],
  json: {
    outboxes:
      "`outbox`, `store`, `unsent`, `oldestUnsentMs`, `quarantined`, `stalls` (`cause`, `ageMs`, `message`), `rows` (`position`, `id`, `to`, `key`, `attempts`, `createdAt`, `quarantinedAt`, `holdsKey`, `code`, `message`)",
  },
  exits: OUTBOX_EXITS,
  async run({ outbox, limit }, frame) {
    const outboxes: Status[] = [];
    for (const { name, store } of outboxesOf(frame, outbox)) outboxes.push(await statusOf({ name, store }, limit));
    return { json: { outboxes }, text: outboxes.map((one) => statusText(frame, one)).join("\n\n") };
  },
});

async function statusOf({ name, store }: NamedOutbox, limit: number): Promise<Status> {
  const [health, rows] = [await store.health(), await store.listQuarantined({ limit })];
  return { outbox: name, store: store.name, ...health, rows: rows.map(rowJson) };
}

function rowJson({ position, id, to, key, attempts, createdAt, quarantinedAt, holdsKey, error }: QuarantinedRow) {
  return {
    ...{ position, id, to: `${to.kind}:${to.name}`, key: key ?? null, attempts },
    createdAt: new Date(createdAt).toISOString(),
    quarantinedAt: new Date(quarantinedAt).toISOString(),
    ...{ holdsKey, code: error.code, message: error.message },
  };
}

function statusText({ terminal: { paint } }: Frame, status: Status): string {
  const { outbox, store, unsent, oldestUnsentMs, quarantined, stalls } = status;
  const rows = (status.rows as readonly ReturnType<typeof rowJson>[]).map(
    ({ position, to, key, attempts, holdsKey, code, message }) => [
      position,
      to,
      key,
      attempts,
      holdsKey ? "holds its key" : "",
      { painted: paint.red(code) },
      preview(message, LONGEST_ERROR),
    ],
  );
  const lines = [
    `${paint.bold(outbox)} ${paint.dim(store)}`,
    `unsent ${unsent}, the oldest due for ${Math.round(oldestUnsentMs / 1_000)} s; quarantined ${quarantined}`,
    ...stalls.map(({ cause, message }) => `${paint.yellow(cause)} ${message}`),
  ];
  if (rows.length > 0)
    lines.push(columns(paint, ["POSITION", "TO", { name: "KEY", when: "cut" }, "TRIES", "", "ERROR", ""], rows));
  return lines.join("\n");
}
