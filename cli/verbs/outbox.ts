import type { OutboxHealth, OutboxStore, QuarantinedRow } from "../../patterns/outbox/index.ts";
import { columns } from "../columns.ts";
import { CommandError } from "../exit-codes.ts";
import type { Frame } from "../frame.ts";
import { preview, progressBar } from "../terminal.ts";
import { type Ended, verb } from "../verb.ts";

/** An outbox of the configuration. */
export interface NamedOutbox {
  readonly name: string;
  readonly store: OutboxStore;
}

/** The option that names an outbox. */
const OUTBOX = { type: "string", describe: "Which one, if the configuration has several" } as const;

/** The exits of every `outbox` command. */
const OUTBOX_EXITS = {
  unavailable: "",
  "not-allowed": "",
  "not-found": "also: there are no tables of an outbox",
} as const;

/** All outboxes of the configuration, or the named one. Throws a `CommandError` if there are none. */
function outboxesOf({ configuration }: Frame, name: string | undefined): readonly NamedOutbox[] {
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
function oneOutbox(frame: Frame, name: string | undefined): NamedOutbox {
  const [first, ...others] = outboxesOf(frame, name);
  if (first !== undefined && others.length === 0) return first;
  throw new CommandError("usage", "there are several outboxes: name one with --outbox");
}

const PAGE = 500;

/** Yields all quarantined rows, in pages. */
async function* quarantinedRows(store: OutboxStore): AsyncGenerator<readonly QuarantinedRow[], void, undefined> {
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
function positionsOf(given: readonly string[]): readonly number[] {
  return given.map((text) => {
    const position = Number(text);
    if (/^\d+$/.test(text) && Number.isSafeInteger(position)) return position;
    throw new CommandError("usage", `"${text}" is no position of a row; list them with "anybroker outbox status"`);
  });
}

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

export const outboxRetry = verb({
  name: "outbox retry",
  summary: "Let relays try quarantined rows again",
  teaches: `Makes quarantined rows claimable at once, with no attempts counted. Remove the cause first. Keys that were held continue.`,
  positionals: {
    positions: { type: "string", array: true, describe: "Positions from outbox status; or --all" },
  },
  options: {
    outbox: OUTBOX,
    all: { type: "boolean", default: false, describe: "All quarantined rows" },
    "dry-run": { type: "boolean", default: false, describe: "Only show which" },
  },
  examples: [
    ["outbox retry 17 18", "two rows"],
    ["outbox retry --all --outbox orders", "all of one of several outboxes"],
  ],
  json: {
    outbox: "",
    dryRun: "",
    retried: "",
    missing: "positions that are not quarantined",
  },
  exits: {
    ...OUTBOX_EXITS,
    partly: "",
    "not-found": "also: none of the rows is quarantined",
  },
  async run({ positions = [], outbox, all, "dry-run": dryRun }, frame) {
    const { name, store } = oneOutbox(frame, outbox);
    if (all === positions.length > 0) throw new CommandError("usage", "name the rows by their positions, or use --all");
    const wanted = positionsOf(positions);
    const retried: number[] = [];
    const { signal } = frame.interruption;
    if (all || dryRun) {
      for await (const rows of quarantinedRows(store)) {
        if (signal.aborted) break;
        const some = rows.map(({ position }) => position).filter((position) => all || wanted.includes(position));
        retried.push(...(dryRun ? some : await store.retryQuarantined(some)));
      }
    } else {
      retried.push(...(await store.retryQuarantined(wanted)));
    }
    const missing = wanted.filter((position) => !retried.includes(position));
    const lines = [
      `${retried.length} rows of ${name} ${dryRun ? "would be" : "will be"} tried again`,
      ...(missing.length > 0 ? [`not quarantined: ${missing.join(", ")}`] : []),
      ...(signal.aborted ? ["stopped: run it again for the rest"] : []),
    ];
    const exit =
      missing.length > 0 && retried.length === 0
        ? "not-found"
        : missing.length > 0 || signal.aborted
          ? "partly"
          : "done";
    return { json: { outbox: name, dryRun, retried, missing }, text: lines.join("\n"), exit };
  },
});

const CLEANED_AT_ONCE = 5_000;

export const outboxPrune = verb({
  name: "outbox prune",
  summary: "Remove rows that were sent, or that never will be",
  teaches: `Removes sent rows whose retention is over, in batches; relays do that too by default. --quarantined removes quarantined rows instead: their messages are never sent.`,
  positionals: {
    positions: { type: "string", array: true, describe: "Positions from outbox status; or --all" },
  },
  options: {
    outbox: OUTBOX,
    quarantined: { type: "boolean", default: false, describe: "Remove quarantined rows, unsent" },
    all: { type: "boolean", default: false, describe: "All quarantined rows" },
    "dry-run": { type: "boolean", default: false, describe: "Only show what would be removed" },
    yes: { type: "boolean", default: false, alias: "y", describe: "Do not ask" },
  },
  examples: [
    ["outbox prune --yes", "rows that were sent"],
    ["outbox prune --quarantined 17", "a message that must never be sent"],
  ],
  json: {
    outbox: "",
    dryRun: "",
    sent: "",
    quarantined: "",
    missing: "positions that are not quarantined",
  },
  exits: {
    ...OUTBOX_EXITS,
    partly: "",
    "not-found": "also: none of the rows is quarantined",
    "not-allowed": "",
  },
  async run(given, frame) {
    const { quarantined, all, positions = [], "dry-run": dryRun, yes } = given;
    const { name, store } = oneOutbox(frame, given.outbox);
    if (quarantined) {
      if (all === positions.length > 0)
        throw new CommandError("usage", "name the rows by their positions, or use --all");
      return discard(frame, { name, store }, { wanted: all ? undefined : positionsOf(positions), dryRun, yes });
    }
    if (all || positions.length > 0) throw new CommandError("usage", "positions and --all need --quarantined");
    return prune(frame, { name, store }, { dryRun, yes });
  },
});

async function prune(
  { terminal, interruption: { signal } }: Frame,
  { name, store }: NamedOutbox,
  { dryRun, yes }: { readonly dryRun: boolean; readonly yes: boolean },
): Promise<Ended> {
  const json = { outbox: name, dryRun, quarantined: [], missing: [] };
  if (dryRun) {
    const text = `sent rows of ${name} with an expired keeping time would be removed; the store does not count them`;
    return { json: { ...json, sent: null }, text };
  }
  await terminal.agreed(`Remove the sent rows of ${name} with an expired keeping time?`, yes, signal);
  const bar = progressBar(terminal, "removing", undefined);
  let sent = 0;
  try {
    for (let removed = CLEANED_AT_ONCE; removed >= CLEANED_AT_ONCE && !signal.aborted; ) {
      removed = await store.clean(CLEANED_AT_ONCE);
      sent += removed;
      bar.update(sent);
    }
  } finally {
    bar.stop();
  }
  const rest = signal.aborted ? "; stopped: run it again for the rest" : "";
  return {
    json: { ...json, sent },
    text: `removed ${sent} sent rows of ${name}${rest}`,
    exit: signal.aborted ? "partly" : "done",
  };
}

async function discard(
  { terminal, interruption: { signal } }: Frame,
  { name, store }: NamedOutbox,
  {
    wanted,
    dryRun,
    yes,
  }: { readonly wanted: readonly number[] | undefined; readonly dryRun: boolean; readonly yes: boolean },
): Promise<Ended> {
  const found: number[] = [];
  for await (const rows of quarantinedRows(store)) {
    signal.throwIfAborted();
    found.push(...rows.map(({ position }) => position).filter((position) => wanted?.includes(position) ?? true));
  }
  if (!dryRun && found.length > 0) {
    await terminal.agreed(
      `Remove ${found.length} quarantined rows of ${name}? Their messages were never sent.`,
      yes,
      signal,
    );
  }
  const removed = dryRun || found.length === 0 ? found : await store.discardQuarantined(found);
  const missing = wanted?.filter((position) => !removed.includes(position)) ?? [];
  const lines = [
    `${dryRun ? "would remove" : "removed"} ${removed.length} quarantined rows of ${name}`,
    ...(missing.length > 0 ? [`not quarantined: ${missing.join(", ")}`] : []),
  ];
  const exit = missing.length === 0 ? "done" : removed.length === 0 ? "not-found" : "partly";
  return { json: { outbox: name, dryRun, sent: 0, quarantined: removed, missing }, text: lines.join("\n"), exit };
}
