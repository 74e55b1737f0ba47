import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import { type Broker, type Depth, MessagingError, type Queue, type Topic } from "../../core/index.ts";

/** How much may wait at a queue, or at one subscription of a topic. */
export interface DepthLimit {
  readonly destination: Queue<never, unknown> | Topic<never, unknown>;
  /** For a topic: whose copies are counted. */
  readonly subscription?: string;
  /** The high mark: with so many messages it is full. */
  readonly maxDepth: number;
  /** The low mark: once full, it stays full until there are so few. Default: three quarters of `maxDepth`. */
  readonly resumeAt?: number;
}

/** Where depths come from: a broker object. */
export type DepthSource = Pick<Broker, "depth">;

/** A limit with nothing left open. */
export interface CheckedLimit {
  readonly destination: DepthLimit["destination"];
  readonly subscription: string | undefined;
  /** As people read it: `queue "orders"`. */
  readonly name: string;
  readonly maxDepth: number;
  readonly resumeAt: number;
}

/** Fills in the defaults; throws `invalid` for what makes no sense. */
export function checkLimits(where: string, limits: readonly DepthLimit[]): CheckedLimit[] {
  if (!Array.isArray(limits) || limits.length === 0) {
    throw new MessagingError("invalid", `${where} { limits } takes a list of at least one { destination, maxDepth }`);
  }
  return limits.map((limit: DepthLimit) => checkLimit(`${where} { limits }`, limit));
}

function checkLimit(where: string, limit: DepthLimit): CheckedLimit {
  checkOptions(where, limit, ["destination", "subscription", "maxDepth", "resumeAt"]);
  const { destination, subscription, maxDepth } = limit;
  const name = sourceName(where, destination, subscription);
  checkInteger(`${where}: maxDepth of ${name}`, maxDepth, 1);
  const resumeAt = limit.resumeAt ?? Math.floor((maxDepth * 3) / 4);
  checkInteger(`${where}: resumeAt of ${name}`, resumeAt, 0, maxDepth - 1);
  return { destination, subscription, name, maxDepth, resumeAt };
}

/** The name of a queue or of a subscription, as people read it; throws `invalid` for anything else. */
export function sourceName(
  where: string,
  destination: DepthLimit["destination"],
  subscription: string | undefined,
): string {
  if (destination?.kind === "queue" && subscription === undefined) return `queue "${destination.name}"`;
  if (destination?.kind === "topic") {
    checkName("subscription", subscription);
    return `subscription "${subscription}" of topic "${destination.name}"`;
  }
  throw new MessagingError("invalid", `${where} takes a queue, or a topic with the name of a subscription`);
}

/** Asks for the depth of what the limit is about. */
export function askDepth(
  source: DepthSource,
  { destination, subscription }: Pick<CheckedLimit, "destination" | "subscription">,
): Promise<Depth> {
  return destination.kind === "queue" ? source.depth(destination) : source.depth(destination, subscription as string);
}
