import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { WorkAddress } from "../core/address.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { thrownText } from "../core/foreign.ts";
import {
  applyJsonPatch,
  type DeadLetterEntry,
  type DeadLetters,
  deadLetters,
  type Edit,
  type JsonPatch,
  jsonPatchOf,
  type Page,
  type Plan,
} from "../patterns/dead-letters/index.ts";
import { heldAt } from "./broker-statistics.ts";
import type { Context } from "./context.ts";
import { CommandError } from "./exit-codes.ts";
import { jsonOf, readJson } from "./files.ts";
import { type Frame, missingText, type OpenBroker, operatorOf, withBroker } from "./frame.ts";
import { refuseNoFile } from "./load-configuration.ts";
import { addressOf, destinationOf, findWorkTarget, type Target } from "./target.ts";
import { printableLines } from "./terminal.ts";

/** The dead letters of a target on an open broker. */
export interface OpenDeadLetters extends OpenBroker {
  readonly dead: DeadLetters;
  readonly target: Target;
}

/** The destination of `dlq` commands. */
export const WHOSE = {
  type: "string",
  demandOption: true,
  describe: "Whose dead letters: orders, queue:orders, topic:order.placed/billing",
} as const;

/** The filter of `dlq` commands. */
export const FILTER = {
  type: "string",
  array: true,
  describe: "all, or conditions: reason = attempts and age '>' 1h",
} as const;

/** The exits of every `dlq` command. */
export const DLQ_EXITS = {
  data: "",
  "not-found": "",
  unavailable: "",
  "not-allowed": "",
} as const;

/** The JSON of every `dlq` command. */
export const DLQ_JSON = {
  broker: "",
  destination: "",
} as const;

/** The JSON of commands that read entries. */
export const LOOK_JSON = {
  held: "",
  complete: "",
  elsewhere: "",
} as const;

/** A scan does not wait long for what others hold. It reports it instead. */
export const SCAN_PATIENCE_MS = 2_000;

/**
 * Adds how many others hold, if the broker can be asked beside the count. Not after a scan that `read` some: that count is
 * some seconds late, and has what the scan itself held.
 */
export async function withElsewhere<Looked extends Pick<Page, "elsewhere">>(
  { adapter, target }: OpenDeadLetters,
  looked: Looked,
  read: number,
): Promise<Looked> {
  if (looked.elsewhere !== null || read > 0) return looked;
  return {
    ...looked,
    elsewhere: await heldAt(adapter, { kind: "dead-letters", of: addressOf(target) as WorkAddress }),
  };
}

/** Says that there are none, as far as they could be read. */
export function noneText(name: string, filter: string | undefined, { elsewhere }: Pick<Page, "elsewhere">): string {
  const like = filter === undefined ? "" : " are like that";
  return `no dead letters of ${name}${like}${elsewhere === 0 ? "" : " among those that could be read"}`;
}

/** Says what could not be read; empty if all was read. */
export function unseenText({ complete, elsewhere }: Pick<Page, "complete" | "elsewhere">): readonly string[] {
  if (elsewhere === null) return ["others may hold more, such as another run; this broker does not report how many"];
  if (elsewhere > 0) return [`${elsewhere} are held by others, such as another run, and not shown here`];
  return complete ? [] : ["not all dead letters could be read: try again"];
}

/** The target of an address. Throws a `CommandError` for a topic without a subscription. */
function workTarget(frame: Frame, address: string): Target {
  const target = findWorkTarget(address, frame.configuration.destinations ?? []);
  if (target.destination.kind === "queue" || target.subscription !== undefined) return target;
  throw new CommandError(
    "usage",
    `each subscription of ${target.name} has its own dead letters: write topic:${target.name}/subscription`,
  );
}

/** Joins the words of a filter; undefined for none. */
export function filterText(words: readonly string[] | undefined): string | undefined {
  return words === undefined || words.length === 0 ? undefined : words.join(" ");
}

/** Opens the dead letters of an address. `others` are further destinations for the broker. */
export async function withDeadLetters<Result>(
  frame: Frame,
  address: string,
  use: (open: OpenDeadLetters) => Promise<Result>,
  others: readonly Destination[] = [],
): Promise<Result> {
  return withTarget(frame, workTarget(frame, address), use, others);
}

/** As {@link withDeadLetters}, for a target. */
function withTarget<Result>(
  frame: Frame,
  target: Target,
  use: (open: OpenDeadLetters) => Promise<Result>,
  others: readonly Destination[] = [],
): Promise<Result> {
  // A destination that is not configured is used as it is: its options are unknown.
  const destinations = [...(target.configured ? [destinationOf(target)] : []), ...others];
  return withBroker(frame, { destinations }, async (open) => {
    await requireExisting(frame, open, target);
    return use(openTarget(frame, open, target));
  });
}

/** Rejects with a `CommandError` if it does not exist, and suggests a name. */
async function requireExisting({ configuration }: Frame, { adapter }: OpenBroker, target: Target): Promise<void> {
  if (target.configured) return;
  const of = addressOf(target) as WorkAddress;
  try {
    await adapter.depth({ kind: "dead-letters", of });
  } catch (error) {
    if (!isMessagingError(error, "not-found")) throw error;
    const text = await missingText(adapter, of, configuration.destinations ?? []);
    throw new CommandError("not-found", text, { cause: error });
  }
}

/** The dead letters of a target on an open broker. */
export function openTarget(frame: Frame, open: OpenBroker, target: Target): OpenDeadLetters {
  const { destination, subscription } = target;
  const options = { by: operatorOf(frame) };
  const dead =
    destination.kind === "queue"
      ? deadLetters(open.broker, destination, options)
      : deadLetters(open.broker, destination, subscription?.name ?? "", options);
  return { ...open, dead, target };
}

/** Formats a body: text as it is, bytes by their number. */
export function bodyText({
  body,
  bodyEncoding,
  bodyCut,
  size,
}: Pick<DeadLetterEntry, "body" | "bodyEncoding" | "bodyCut" | "size">): string {
  if (bodyEncoding === "text") return bodyCut ? `${body}…` : body;
  const text = Buffer.from(body, "base64").toString("utf8");
  // Texts with control characters are base64 too. They are shown with escapes.
  return text.includes("\ufffd") ? `(${size} bytes: ${body}${bodyCut ? "…" : ""})` : bodyCut ? `${text}…` : text;
}

/** Formats the time since, as in `3h`. */
export function ageText(time: string | null, now: number): string {
  if (time === null) return "-";
  const seconds = Math.max(Math.floor((now - Date.parse(time)) / 1_000), 0);
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3_600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

/** The options of commands that edit dead letters. */
export const EDIT_OPTIONS = {
  patch: { type: "string", describe: "Edit each: a JSON patch (RFC 6902) or its file" },
  script: { type: "string", describe: "Edit each: a module with the default export (body, entry) => newBody" },
} as const;

const LARGEST_BODY = 16 * 1024 * 1024;

/** The edit options as given. */
interface GivenEdit {
  readonly patch: string | undefined;
  readonly script: string | undefined;
}

/** Reads the edit; undefined for none. Rejects with a `CommandError`. */
export async function editOf(
  { patch, script }: GivenEdit,
  { context, interruption }: Frame,
): Promise<Edit | JsonPatch | undefined> {
  if (patch !== undefined && script !== undefined)
    throw new CommandError("usage", "--patch and --script both make the new body: use one of them");
  if (script !== undefined) return functionIn(script, context);
  if (patch === undefined) return undefined;
  return jsonPatchOf(
    "--patch",
    /^\s*\[/.test(patch) ? parsed(patch) : await readJson(patch, context, interruption.signal),
  );
}

function parsed(text: string): unknown {
  const example = `[{"op":"replace","path":"/currency","value":"EUR"}]`;
  const otherwise = `write a list of operations such as ${example}, or name a file`;
  return jsonOf(text, "--patch", otherwise, "use --script, and a codec that keeps it");
}

async function functionIn(script: string, { cwd }: Pick<Context, "cwd">): Promise<Edit> {
  const path = resolve(cwd, script);
  refuseNoFile(path, "the script");
  let edit: unknown;
  try {
    ({ default: edit } = (await import(pathToFileURL(path).href)) as { readonly default?: unknown });
  } catch (cause) {
    throw new CommandError("no-input", `the script ${path} cannot be loaded: ${thrownText(cause)}`, { cause });
  }
  if (typeof edit === "function") return edit as Edit;
  throw new CommandError(
    "data",
    `the script ${path} has no function as its default export: write export default (body, entry) => …`,
  );
}

/** Shows the edit of the plan's first entry; empty without an edit. */
export async function editShown(
  { terminal: { paint }, interruption }: Frame,
  { dead, adapter, target }: OpenDeadLetters,
  { entries: [first] }: Pick<Plan, "entries">,
  edit: Edit | JsonPatch | undefined,
): Promise<string> {
  if (edit === undefined || first === undefined) return "";
  const { entries } = await dead.list({
    filter: [{ field: "id", is: "=", value: first.id }],
    limit: 1,
    bodyBytes: LARGEST_BODY,
    signal: interruption.signal,
  });
  const [entry] = entries;
  if (entry === undefined || entry.bodyCut) return "";
  const codec = target.destination.options.codec;
  const bytes = Buffer.from(entry.body, entry.bodyEncoding === "text" ? "utf8" : "base64");
  let body: unknown;
  try {
    body = codec === undefined ? JSON.parse(bytes.toString("utf8")) : codec.decode(bytes);
  } catch {
    body = undefined;
  }
  let after: string;
  try {
    const changed = typeof edit === "function" ? await edit(body, entry) : applyJsonPatch(body, edit);
    after = changed === undefined ? "unchanged" : (JSON.stringify(changed) ?? String(changed));
  } catch (error) {
    after = `the edit throws: ${thrownText(error)}`;
  }
  const name = `such as ${entry.id} on ${adapter.name}:`;
  return `${name}\n${paint.red("-")} ${printableLines(bodyText(entry))}\n${paint.green("+")} ${printableLines(after)}`;
}

/** The id of a dead letter, without the prefix `id:`. */
export function entryId(text: string): string {
  return text.startsWith(PREFIX) ? text.slice(PREFIX.length) : text;
}

export const PREFIX = "id:";
