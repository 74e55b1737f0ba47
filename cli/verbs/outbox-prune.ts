import { CommandError } from "../exit-codes.ts";
import type { Frame } from "../frame.ts";
import { type NamedOutbox, OUTBOX, OUTBOX_EXITS, oneOutbox, positionsOf, quarantinedRows } from "../outboxes.ts";
import { progressBar } from "../terminal.ts";
import { type Ended, verb } from "../verb.ts";

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
