import type { ContainerModule } from "inversify";
import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import { DEFAULT_STOP_MS } from "../../core/consume/consumer.ts";
import { type Broker, MessagingError } from "../../core/index.ts";

/** What messaging in a container is told besides its brokers. */
export interface MessagingSettings {
  /**
   * Loaded into the container of each message: what is a singleton in them is one for that message, and is deactivated
   * when its handler is done. Default: none.
   */
  readonly perMessage?: readonly ContainerModule[];
  /**
   * Whether `start` makes each handler twice, as for a message, and releases it again, so that one that cannot be made is
   * known then. Singletons that are made for it stay. Default true.
   */
  readonly tryHandlers?: boolean;
  /** How long running handlers may go on when the container is unbound, in milliseconds. Default 30,000. */
  readonly stopTimeoutMs?: number;
}

/** One broker object, made by `createBroker`. */
export interface OneBroker {
  /** Injected as `PUBLISHER` and `BROKER`. */
  readonly broker: Broker;
  readonly brokers?: Readonly<Record<string, Broker>>;
}

/** Several broker objects, each with a name of its own. */
export interface NamedBrokers {
  readonly broker?: Broker;
  /** Injected by `publisherOf(name)` and `brokerOf(name)`; handlers say `{ broker: name }`. */
  readonly brokers: Readonly<Record<string, Broker>>;
}

/** The options of `messagingModule`: a broker, brokers by name, or both. */
export type MessagingOptions = MessagingSettings & (OneBroker | NamedBrokers);

/** How the broker without a name is called where all of them are listed. */
export const UNNAMED = "default";

const OPTIONS = ["broker", "brokers", "perMessage", "tryHandlers", "stopTimeoutMs"];
const WHERE = "messagingModule";

/** The options with their defaults. Throws `invalid` for what makes no sense. */
export function messagingOptions(given: MessagingOptions) {
  checkOptions(WHERE, given, OPTIONS);
  const { broker, brokers = {}, perMessage = [], tryHandlers = true, stopTimeoutMs = DEFAULT_STOP_MS } = given;
  if (typeof brokers !== "object" || brokers === null) throw invalid("{ brokers } takes broker objects by name");
  for (const name of Object.keys(brokers)) checkName("broker", name);
  if (UNNAMED in brokers) throw invalid(`{ brokers } takes any name but "${UNNAMED}": give that one as { broker }`);
  const all = [...(broker === undefined ? [] : [broker]), ...Object.values(brokers)];
  const isBroker = (each: Broker) => typeof each?.consume === "function";
  if (all.length === 0 || !all.every(isBroker))
    throw invalid("takes { broker } or { brokers }, made by createBroker()");
  if (new Set(all).size < all.length) throw invalid("takes a broker object once, under one name");
  if (!Array.isArray(perMessage) || !perMessage.every((module) => typeof module?.load === "function")) {
    throw invalid("{ perMessage } takes an array of ContainerModules");
  }
  if (typeof tryHandlers !== "boolean") throw invalid("{ tryHandlers } takes true or false");
  checkInteger(`${WHERE} { stopTimeoutMs }`, stopTimeoutMs, 0);
  return { broker, brokers, perMessage: [...perMessage], tryHandlers, stopTimeoutMs };
}

function invalid(what: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${what}`);
}
