import { DECLARE_IT, SET_IT } from "../core/errors.ts";
import { thrownText } from "../core/foreign.ts";

/** The command-line options in place of options of calls, as errors name them. */
const OPTIONS: Readonly<Record<string, string>> = Object.freeze({
  accept: "--accept",
  cursor: "--cursor",
  delayMs: "--delay",
  edit: "--patch or --script",
  headers: "--header",
  id: "--id",
  incomplete: "--incomplete",
  key: "--key",
  limit: "--limit",
  maxReplays: "--max-replays",
  patienceMs: "--patience",
  priority: "--priority",
  ramp: "--ramp",
  "ramp.backlogMs": "--ramp-backlog",
  "ramp.factor": "--ramp-factor",
  "ramp.first": "--ramp-first",
  "ramp.observeMs": "--ramp-watch",
  "ramp.tolerate": "--tolerate",
  rate: "--rate",
  routingKey: "--routing-key",
  share: "--share",
  timeoutMs: "--timeout",
  to: "--to",
  ttlMs: "--ttl",
});

/**
 * The text of an error for people at a command line: it names commands and options in place of calls. `destination` is the
 * one that the error is about, as it is written on a command line.
 */
export function toldText(error: unknown, destination?: string): string {
  return inCommands(thrownText(error), destination);
}

/** As {@link toldText}, for a text of the library. */
export function inCommands(text: string, destination?: string): string {
  const create = `"anybroker topology create${destination === undefined ? "" : ` ${destination}`}"`;
  return text
    .replaceAll(`${DECLARE_IT}, which need `, `create it with ${create}, which needs `)
    .replaceAll(DECLARE_IT, `create it with ${create}`)
    .replaceAll(SET_IT, `${create} sets it`)
    .replaceAll('start with declare: "create", or run "anybroker topology create"', `run ${create}`)
    .replaceAll("see the cause", "--verbose shows the cause")
    .replaceAll(/deadLetters\([^()]*\)\.\w+:? /g, "")
    .replaceAll("patienceMs, --patience", "--patience")
    .replaceAll("patienceMs (--patience)", "--patience")
    .replaceAll("with { share } to 100", "with --share 100")
    .replaceAll('accept "parity" to', "use --accept parity to")
    .replaceAll("accept each by its name,", "accept each by its name (--accept),")
    .replaceAll(/\b(advance|rollback)\(\)/g, '"anybroker migrate $1"')
    .replaceAll(/\{ ([\w.]+) \}/g, (written, name: string) =>
      Object.hasOwn(OPTIONS, name) ? `${OPTIONS[name]}` : written,
    );
}
