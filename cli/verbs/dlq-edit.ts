import { systemRandom } from "../../core/clock.ts";
import { jsonCodec } from "../../core/codec.ts";
import { messageIds } from "../../core/message-ids.ts";
import { encodeMessage } from "../../core/publish/encode-message.ts";
import {
  bodyText,
  DLQ_EXITS,
  DLQ_JSON,
  entryId,
  type OpenDeadLetters,
  WHOSE,
  withDeadLetters,
} from "../dead-letters-of.ts";
import { CommandError } from "../exit-codes.ts";
import { readBytes } from "../files.ts";
import type { Frame } from "../frame.ts";
import { bodyOf } from "../sending.ts";
import { printableLines } from "../terminal.ts";
import { verb } from "../verb.ts";

export const dlqEdit = verb({
  name: "dlq edit",
  summary: "Send an edited copy of one dead letter in its place",
  teaches: `Sends a copy with a new body under a new id to the original place, and removes the dead letter after the confirm. The body is JSON, checked by the schema. The same edit of an entry always has the same id: a second try is a duplicate.`,
  positionals: {
    destination: WHOSE,
    id: { type: "string", demandOption: true, describe: "The id of the entry, or of the message" },
    message: { type: "string", describe: "The new body; or --file" },
  },
  options: {
    file: { type: "string", describe: "Read it from a file; - is stdin" },
    text: { type: "boolean", default: false, describe: "The body is text, not JSON" },
    "max-replays": { type: "number", describe: "Refuse a message with this many replays. Default 3" },
    incomplete: { type: "boolean", default: false, describe: "Also with lost headers" },
    "dry-run": { type: "boolean", default: false, describe: "Only check the new body" },
    yes: { type: "boolean", default: false, alias: "y", describe: "Do not ask" },
  },
  examples: [
    [`dlq edit orders Zx0fJ0oY5vZ5k8h1kq3b2A '{"id":"o-1","total":12}'`, "shows both, and asks"],
    ["dlq show orders Zx0fJ0oY5vZ5k8h1kq3b2A --json | jq -r '.entries[0].body' > body.json", "to begin with"],
  ],
  json: {
    ...DLQ_JSON,
    dryRun: "",
    entry: "before the edit",
    id: "of the copy",
    editedFrom: "",
  },
  exits: {
    ...DLQ_EXITS,
    data: "the dead letter is unchanged",
    "not-found": "",
    configuration: "several entries: take the id of one",
  },
  async run(given, frame) {
    const { destination, message, file } = given;
    const id = entryId(given.id);
    if ((message === undefined) === (file === undefined)) {
      throw new CommandError("usage", "pass the new body, or --file with its file (- is stdin)");
    }
    const { signal } = frame.interruption;
    const bytes = message === undefined ? await readBytes(file ?? "-", frame.context, signal) : Buffer.from(message);
    const body = bodyOf(bytes, { text: given.text, raw: false, contentType: undefined }, "the new body");
    return withDeadLetters(frame, destination, async (open) => {
      const entry = await findEntry(frame, open, id);
      const { dead, label, target } = open;
      const { "max-replays": maxReplays, "dry-run": dryRun, incomplete } = given;
      const json = { broker: label, destination: target.name, dryRun, entry };
      const { paint } = frame.terminal;
      const shown = `${paint.red("-")} ${printableLines(bodyText(entry))}\n${paint.green("+")} ${printableLines(Buffer.from(bytes).toString("utf8").trimEnd())}`;
      if (dryRun) {
        await check(frame, open, body);
        const text = `${shown}\nthe new body is valid; nothing was done: --dry-run`;
        return { json: { ...json, id: null, editedFrom: entry.messageId }, text };
      }
      if (!frame.terminal.json) frame.terminal.note(shown);
      await frame.terminal.agreed(`Send this in place of ${entry.id}?`, given.yes, frame.interruption.signal);
      const edited = await dead.edit(entry.id, () => body, {
        incomplete,
        ...(maxReplays === undefined ? {} : { maxReplays }),
      });
      return { json: { ...json, ...edited }, text: `sent ${edited.id} in place of ${edited.editedFrom}` };
    });
  },
});

async function findEntry(frame: Frame, { dead, target }: OpenDeadLetters, id: string) {
  const { entries } = await dead.list({
    filter: [{ field: "id", is: "=", value: id }],
    limit: 2,
    signal: frame.interruption.signal,
  });
  const [entry, other] = entries;
  if (entry === undefined) throw new CommandError("not-found", `no dead letter of ${target.name} has the id ${id}`);
  if (other === undefined || entry.id === id) return entry;
  throw new CommandError(
    "configuration",
    `several dead letters of ${target.name} have the id ${id}: use the id of an entry, as shown by dlq ls`,
  );
}

/** Checks the new body as a send to the destination would. */
async function check(
  { context: { clock } }: Frame,
  { adapter, target }: OpenDeadLetters,
  body: unknown,
): Promise<void> {
  const { destination } = target;
  await encodeMessage(
    {
      destination,
      where: `edit for ${target.name}`,
      codec: destination.options.codec ?? jsonCodec(),
      capabilities: adapter.capabilities,
      adapterName: adapter.name,
      clock,
      makeId: messageIds(clock, systemRandom()),
    },
    body,
    undefined,
  );
}
