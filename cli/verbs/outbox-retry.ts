import { CommandError } from "../exit-codes.ts";
import { OUTBOX, OUTBOX_EXITS, oneOutbox, positionsOf, quarantinedRows } from "../outboxes.ts";
import { verb } from "../verb.ts";

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
