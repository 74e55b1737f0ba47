import type { Broker, Receipt } from "../core/broker.ts";
import { systemRandom } from "../core/clock.ts";
import { type Codec, jsonCodec } from "../core/codec.ts";
import type { Queue, Topic } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { messageIds } from "../core/message-ids.ts";
import type { PublishOptions, SendOptions } from "../core/options.ts";
import { encodeMessage } from "../core/publish/encode-message.ts";
import { CommandError, type ExitName, exitOf, isLibraryError } from "./exit-codes.ts";
import { jsonOf, readBytes, readLines } from "./files.ts";
import { chosenBroker, type Frame, withBroker } from "./frame.ts";
import { describeDestination, destinationOf, type Target } from "./target.ts";
import { progressBar } from "./terminal.ts";
import type { Ended } from "./verb.ts";
import { toldText } from "./wording.ts";

/** The form of a body on the command line. */
export interface BodyForm {
  /** A text, not JSON. */
  readonly text: boolean;
  /** Bytes, without codec and schema. */
  readonly raw: boolean;
  readonly contentType: string | undefined;
}

/** Parses a body. Throws a `CommandError` that quotes nothing of it; `where` names the body. */
export function bodyOf(bytes: Uint8Array, { text, raw }: BodyForm, where: string): unknown {
  if (raw) return bytes;
  const decoded = Buffer.from(bytes).toString("utf8");
  if (text) return decoded;
  return jsonOf(
    decoded,
    where,
    `quote it for the shell, as in '{"id":"o-1"}', or use --text or --raw`,
    "use --raw with --content-type application/json, which sends the bytes unchanged",
  );
}

/** The destination for `--raw`: bytes without codec and schema. */
function rawDestination<Of extends Queue<never, unknown> | Topic<never, unknown>>(of: Of, contentType?: string): Of {
  const codec: Codec = {
    contentType: contentType ?? "application/octet-stream",
    encode: (body) => body as Uint8Array,
    decode: (bytes) => bytes,
  };
  const { key: _, ...options } = of.options;
  return { ...of, schema: undefined, options: { ...options, codec } };
}

/** Parses headers `name=value`. Throws a `CommandError`. */
export function headersOf(given: readonly string[]): Readonly<Record<string, string>> {
  const headers: Record<string, string> = Object.create(null);
  for (const text of given) {
    const at = text.indexOf("=");
    if (at < 1) throw new CommandError("usage", `--header takes name=value, not "${text}"`);
    const name = text.slice(0, at);
    if (name in headers) throw new CommandError("usage", `--header ${name} was given twice`);
    headers[name] = text.slice(at + 1);
  }
  return headers;
}

type AnyQueue = Queue<unknown>;
type AnyTopic = Topic<unknown>;
type Send = (body: unknown) => Promise<Receipt>;

/** The bodies to send, and how. */
interface Sending {
  readonly body: string | undefined;
  readonly file: string | undefined;
  readonly lines: boolean;
  readonly fromLine: number;
  readonly form: BodyForm;
  readonly options: SendOptions | PublishOptions;
  readonly dryRun: boolean;
}

/** The JSON of `send` and `publish`. */
export const SENT_JSON = {
  broker: "",
  destination: "",
  dryRun: "",
  sent: "",
  failed: "",
  ids: "the first 100",
  failures: "the first 100: `line`, `code`, `message`",
  nextLine: "for `--from-line`, after a stop",
};

const MOST_LISTED = 100;
const MOST_AT_ONCE = 1_000;

/** Sends all messages to a queue or topic, and reports the result. */
export async function sendAll(frame: Frame, target: Target, sending: Sending): Promise<Ended> {
  const { form, options, dryRun } = sending;
  const destination = form.raw ? rawDestination(target.destination, form.contentType) : target.destination;
  checkSending(sending);
  const single = sending.lines ? undefined : { body: await readBody(frame, sending) };
  if (dryRun) {
    const { label, adapter: make } = chosenBroker(frame);
    const { name, capabilities } = await make();
    const { clock } = frame.context;
    const makeId = messageIds(clock, systemRandom());
    const where = `${destination.kind === "queue" ? "send to queue" : "publish to topic"} "${destination.name}"`;
    const codec = destination.options.codec ?? jsonCodec();
    const context = { destination, where, codec, capabilities, adapterName: name, clock, makeId };
    return sent(frame, target, sending, single, label, async (body) => ({
      id: (await encodeMessage(context, body, options)).id,
    }));
  }
  return withBroker(frame, { destinations: [destinationOf({ ...target, destination })] }, ({ broker, label }) =>
    sent(frame, target, sending, single, label, senderOf(broker, destination, options)),
  );
}

function senderOf(
  broker: Broker,
  destination: Queue<never, unknown> | Topic<never, unknown>,
  options: SendOptions | PublishOptions,
): Send {
  if (destination.kind === "queue") return (body) => broker.send(destination as AnyQueue, body, options);
  return (body) => broker.publish(destination as AnyTopic, body, options);
}

function checkSending({ body, file, lines, fromLine, options }: Sending): void {
  if ((body === undefined) === (file === undefined)) {
    throw new CommandError("usage", "pass the message, or --file with its file (- is stdin)");
  }
  if (lines && file === undefined)
    throw new CommandError("usage", "--lines needs --file: a file with one message per line, or -");
  if (lines && options.id !== undefined)
    throw new CommandError("usage", "--id is for one message, and --lines sends many");
  if (!lines && fromLine !== 1) throw new CommandError("usage", "--from-line needs --lines");
}

/** The results of sends. */
interface Sent {
  /** As it is written on a command line. */
  readonly destination: string;
  sent: number;
  readonly ids: string[];
  readonly failures: { readonly line: number; readonly code: string; readonly message: string }[];
  failed: number;
  readonly errors: unknown[];
  exit: ExitName;
}

/** Reads a single message before anything is connected. */
async function readBody({ context, interruption }: Frame, { body, file, form }: Sending): Promise<unknown> {
  const bytes = body === undefined ? await readBytes(file ?? "-", context, interruption.signal) : Buffer.from(body);
  return bodyOf(bytes, form, "the message");
}

async function sent(
  frame: Frame,
  target: Target,
  sending: Sending,
  single: { readonly body: unknown } | undefined,
  label: string,
  send: Send,
): Promise<Ended> {
  const destination = describeDestination(destinationOf(target));
  const tally: Sent = { destination, sent: 0, ids: [], failures: [], errors: [], failed: 0, exit: "done" };
  if (single !== undefined) await sendOne(send, single.body, 1, tally);
  const nextLine = single === undefined ? await sendLines(frame, sending, send, tally) : null;
  const { dryRun } = sending;
  const { ids, failures, failed } = tally;
  const stopped = nextLine !== null;
  const { paint } = frame.terminal;
  const text = [
    `${dryRun ? "would send" : "sent"} ${tally.sent} to ${paint.bold(target.name)}${tally.sent === 1 ? ` ${paint.dim(ids[0] ?? "")}` : ""}`,
    ...failures.map(
      ({ line, code, message }) => `${sending.lines ? `line ${line}: ` : ""}${paint.red(code)} ${message}`,
    ),
    ...(failed > failures.length ? [`and ${failed - failures.length} more failed`] : []),
    ...(stopped ? [`stopped; continue with --from-line ${nextLine}`] : []),
  ].join("\n");
  const partly = stopped || (failed > 0 && tally.sent > 0);
  const json = { broker: label, destination: target.name, dryRun, sent: tally.sent, failed, ids, failures, nextLine };
  return { json, text, errors: tally.errors, exit: partly ? "partly" : tally.exit };
}

/** Sends lines. If it was interrupted, resolves with the line to continue with; all earlier lines have ended. */
async function sendLines(frame: Frame, sending: Sending, send: Send, tally: Sent): Promise<number | null> {
  const { context, interruption, terminal } = frame;
  const { file, fromLine, form } = sending;
  const bar = progressBar(terminal, "sending", undefined);
  const underWay = new Set<Promise<void>>();
  const { signal } = interruption;
  let at = 0;
  try {
    for await (const line of readLines(file ?? "-", context, signal)) {
      if (signal.aborted) break;
      at++;
      if (at < fromLine || line.trim() === "") continue;
      const sending = sendLine(send, line, form, at, tally).finally(() => underWay.delete(sending));
      underWay.add(sending);
      if (underWay.size >= MOST_AT_ONCE) await Promise.race(underWay);
      bar.update(tally.sent);
    }
    await Promise.all(underWay);
    bar.update(tally.sent);
  } finally {
    bar.stop();
  }
  return signal.aborted ? at + 1 : null;
}

async function sendLine(send: Send, line: string, form: BodyForm, at: number, tally: Sent): Promise<void> {
  let body: unknown;
  try {
    body = bodyOf(Buffer.from(line), form, `line ${at}`);
  } catch (error) {
    fail(tally, at, error);
    return;
  }
  await sendOne(send, body, at, tally);
}

async function sendOne(send: Send, body: unknown, line: number, tally: Sent): Promise<void> {
  try {
    const { id } = await send(body);
    tally.sent++;
    if (tally.ids.length < MOST_LISTED) tally.ids.push(id);
  } catch (error) {
    if (!isMessagingError(error) && !isLibraryError(error)) throw error;
    fail(tally, line, error);
  }
}

function fail(tally: Sent, line: number, error: unknown): void {
  tally.failed++;
  if (tally.exit === "done") tally.exit = exitOf(error);
  const code = isLibraryError(error) ? error.code : exitOf(error);
  const message = toldText(error, tally.destination);
  if (tally.errors.length < MOST_LISTED) tally.errors.push(error);
  if (tally.failures.length < MOST_LISTED) tally.failures.push({ line, code, message });
}
