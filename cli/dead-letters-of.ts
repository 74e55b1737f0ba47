import type { WorkAddress } from "../core/address.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import type { DeadLetterEntry, DeadLetters, Page } from "../patterns/dead-letters/index.ts";
import { deadLetters } from "../patterns/dead-letters/index.ts";
import { heldAt } from "./broker-details.ts";
import { missingText } from "./discovery.ts";
import { CommandError } from "./exit-codes.ts";
import { type Frame, type OpenBroker, withBroker } from "./frame.ts";
import { addressOf, destinationOf, findWorkTarget, type Target } from "./target.ts";

/** Dead letters that are open to be worked on. */
export interface OpenDeadLetters extends OpenBroker {
  readonly dead: DeadLetters;
  readonly target: Target;
}

/** How `dlq` commands say whose dead letters. */
export const WHOSE = {
  type: "string",
  demandOption: true,
  describe: "Whose dead letters: orders, queue:orders, topic:order.placed/billing",
} as const;

/** How `dlq` commands choose. */
export const FILTER = {
  type: "string",
  array: true,
  describe: "Which: all, or as in: reason = attempts and age '>' 1h",
} as const;

/** How every `dlq` command may end. */
export const DLQ_EXITS = {
  data: "the filter cannot be read",
  "not-found": "the destination is not there",
  unavailable: "the broker cannot be reached",
  "not-allowed": "it refuses the login, or the right to read",
} as const;

/** What every `dlq` command tells. */
export const DLQ_JSON = {
  broker: "the broker as it was chosen, without secrets",
  destination: "whose dead letters: `orders`, `order.placed..billing`",
} as const;

/** What those tell that look at entries. */
export const LOOK_JSON = {
  held: "whether the entries were taken and given back to be looked at, because the broker cannot be read otherwise",
  complete: "whether everything that stands was seen, as far as the broker tells",
  elsewhere:
    "how many others hold that could not be seen, such as another run; null where they hold some and the broker does not tell how many",
} as const;

/** For what others hold a look does not wait long: it says so. */
export const LOOK_PATIENCE_MS = 2_000;

/** The same, with how many others hold, where that can be asked for beside the count. */
export async function withElsewhere<Looked extends Pick<Page, "elsewhere">>(
  { adapter, target }: OpenDeadLetters,
  looked: Looked,
): Promise<Looked> {
  if (looked.elsewhere !== null) return looked;
  return {
    ...looked,
    elsewhere: await heldAt(adapter, { kind: "dead-letters", of: addressOf(target) as WorkAddress }),
  };
}

/** That there are none, as far as could be seen. */
export function noneText(name: string, filter: string | undefined, { elsewhere }: Pick<Page, "elsewhere">): string {
  const like = filter === undefined ? "" : " are like that";
  return `no dead letters of ${name}${like}${elsewhere === 0 ? "" : " among those that could be seen"}`;
}

/** What could not be seen, for people; nothing if everything was. */
export function unseenText({ complete, elsewhere }: Pick<Page, "complete" | "elsewhere">): readonly string[] {
  if (elsewhere === null) return ["others hold some, such as another run; how many this broker does not tell"];
  if (elsewhere > 0) return [`${elsewhere} held by others, such as another run, and not seen here`];
  return complete ? [] : ["not everything that stands was seen: look again"];
}

/** Whose dead letters an address means. Throws a `CommandError` for a topic without a subscription. */
export function workTarget(frame: Frame, address: string): Target {
  const target = findWorkTarget(address, frame.configuration.destinations ?? []);
  if (target.destination.kind === "queue" || target.subscription !== undefined) return target;
  throw new CommandError(
    "usage",
    `each subscription of ${target.name} has dead letters of its own: write topic:${target.name}/subscription`,
  );
}

/** The text of a filter; undefined for none. */
export function filterText(words: readonly string[] | undefined): string | undefined {
  return words === undefined || words.length === 0 ? undefined : words.join(" ");
}

/** Opens the dead letters that an address means, and whatever else is to be known on the broker. */
export async function withDeadLetters<Result>(
  frame: Frame,
  address: string,
  use: (open: OpenDeadLetters) => Promise<Result>,
  others: readonly Destination[] = [],
): Promise<Result> {
  return withTarget(frame, workTarget(frame, address), use, others);
}

/** The same for a target that is known. */
export function withTarget<Result>(
  frame: Frame,
  target: Target,
  use: (open: OpenDeadLetters) => Promise<Result>,
  others: readonly Destination[] = [],
): Promise<Result> {
  // How something is declared that only stands on the broker nobody said: it is looked at as it is.
  const destinations = [...(target.configured ? [destinationOf(target)] : []), ...others];
  return withBroker(frame, { destinations }, async (open) => {
    await requireStanding(frame, open, target);
    return use(openTarget(frame, open, target));
  });
}

/** Rejects with a `CommandError` if it is not there, with what may have been meant. */
async function requireStanding({ configuration }: Frame, { adapter }: OpenBroker, target: Target): Promise<void> {
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
  const options = { by: whoWorks(frame) };
  const dead =
    destination.kind === "queue"
      ? deadLetters(open.broker, destination, options)
      : deadLetters(open.broker, destination, subscription?.name ?? "", options);
  return { ...open, dead, target };
}

function whoWorks({ configuration, context: { env } }: Frame): string {
  return configuration.by ?? env.USER ?? env.LOGNAME ?? env.USERNAME ?? "unknown";
}

/** A body as people read it: text as it is, bytes by their number. */
export function bodyText({
  body,
  bodyEncoding,
  bodyCut,
  size,
}: Pick<DeadLetterEntry, "body" | "bodyEncoding" | "bodyCut" | "size">): string {
  if (bodyEncoding === "text") return bodyCut ? `${body}…` : body;
  const text = Buffer.from(body, "base64").toString("utf8");
  // Base64 stands for what holds controls too, which are shown as escapes.
  return text.includes("\ufffd") ? `(${size} bytes: ${body}${bodyCut ? "…" : ""})` : bodyCut ? `${text}…` : text;
}

/** How long ago a time is, shortly: `3h`. */
export function ageText(time: string | null, now: number): string {
  if (time === null) return "-";
  const seconds = Math.max(Math.floor((now - Date.parse(time)) / 1_000), 0);
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3_600)}h` : `${Math.floor(seconds / 86_400)}d`;
}
