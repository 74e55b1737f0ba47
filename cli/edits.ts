import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { thrownText } from "../core/foreign.ts";
import { applyJsonPatch, type Edit, type JsonPatch, jsonPatchOf, type Plan } from "../patterns/dead-letters/index.ts";
import { jsonOf } from "./bodies.ts";
import type { Context } from "./context.ts";
import { bodyText, type OpenDeadLetters } from "./dead-letters-of.ts";
import { CommandError } from "./exit-codes.ts";
import { readJson } from "./files.ts";
import type { Frame } from "./frame.ts";
import { refuseNoFile } from "./load-configuration.ts";
import { printableLines } from "./printable.ts";

/** The options of commands that edit what they send. */
export const EDIT_OPTIONS = {
  patch: { type: "string", describe: "Edit each: a JSON patch (RFC 6902), or the file that holds one" },
  script: { type: "string", describe: "Edit each: a module that exports (body, entry) => newBody by default" },
} as const;

const LARGEST_BODY = 16 * 1024 * 1024;

/** What was given of an edit. */
export interface GivenEdit {
  readonly patch: string | undefined;
  readonly script: string | undefined;
}

/** The edit that was asked for; undefined for none. Rejects with a `CommandError`. */
export async function editOf(
  { patch, script }: GivenEdit,
  { context, interruption }: Frame,
): Promise<Edit | JsonPatch | undefined> {
  if (patch !== undefined && script !== undefined)
    throw new CommandError("usage", "--patch and --script both make the new body: give one");
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
  return jsonOf(text, "--patch", otherwise, "give --script, and a codec that keeps it");
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
  throw new CommandError("data", `the script ${path} exports no function: write export default (body, entry) => …`);
}

/** What the edit makes of the first of a plan, as people read it; empty for a plan without an edit. */
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
    after = changed === undefined ? "left as it is" : (JSON.stringify(changed) ?? String(changed));
  } catch (error) {
    after = `the edit throws: ${thrownText(error)}`;
  }
  const name = `such as ${entry.id} on ${adapter.name}:`;
  return `${name}\n${paint.red("-")} ${printableLines(bodyText(entry))}\n${paint.green("+")} ${printableLines(after)}`;
}
