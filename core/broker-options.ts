import { CAPABILITY_NAMES } from "./capabilities.ts";
import { checkInteger, checkObject, checkOptions, clockOf, randomOf } from "./checks.ts";
import { MessagingError } from "./errors.ts";
import type { BrokerOptions, ConsumeOptions, RetryDelay, RetryPolicy } from "./options.ts";
import { retryPolicy } from "./retry-policy.ts";

export const DEFAULT_CONCURRENCY = 10;
const DEFAULT_TIMEOUT_MS = 300_000;
const DEFAULT_PREFETCH_MESSAGES = 500;
const DEFAULT_PREFETCH_BYTES = 64 * 1024 * 1024;
const DEFAULT_MAX_PARKED = 100;
const DEFAULT_SILENCE_MS = 60_000;
/** The engine reads and writes the log several times within it. */
const LEAST_SILENCE_MS = 100;

export const CONSUME_OPTIONS = ["concurrency", "retry", "timeoutMs", "prefetch", "maxParked", "quarantine", "use"];

/** Fills in the defaults: the broker's, then the library's. Throws `invalid` for wrong options. */
export function consumerOptions(where: string, given: ConsumeOptions, defaults: ConsumeOptions) {
  const concurrency = given.concurrency ?? defaults.concurrency ?? DEFAULT_CONCURRENCY;
  checkInteger(`${where} { concurrency }`, concurrency, 1);
  for (const part of ["prefetch", "retry", "quarantine"] as const) {
    if (given[part] !== undefined) checkObject(`${where} { ${part} }`, given[part]);
  }
  const timeoutMs = given.timeoutMs ?? defaults.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  checkInteger(`${where} { timeoutMs }`, timeoutMs, 1);
  const prefetch = { ...defaults.prefetch, ...given.prefetch };
  checkOptions(`${where} { prefetch }`, prefetch, ["messages", "bytes"]);
  const { messages = DEFAULT_PREFETCH_MESSAGES, bytes = DEFAULT_PREFETCH_BYTES } = prefetch;
  checkInteger(`${where} { prefetch.messages }`, messages, 1);
  checkInteger(`${where} { prefetch.bytes }`, bytes, 1);
  const maxParked = given.maxParked ?? defaults.maxParked ?? DEFAULT_MAX_PARKED;
  checkInteger(`${where} { maxParked }`, maxParked, 0);
  const quarantine = { ...defaults.quarantine, ...given.quarantine };
  checkOptions(`${where} { quarantine }`, quarantine, ["silenceMs"]);
  const { silenceMs = DEFAULT_SILENCE_MS } = quarantine;
  checkInteger(`${where} { quarantine.silenceMs }`, silenceMs, LEAST_SILENCE_MS);
  const own: unknown = given.use ?? [];
  if (!Array.isArray(own) || !own.every((middleware) => typeof middleware === "function")) {
    throw new MessagingError(
      "invalid",
      `${where} { use } takes a list of middleware: functions from handler to handler`,
    );
  }
  const use = [...(defaults.use ?? []), ...(given.use ?? [])];
  const retry = { ...defaults.retry, ...given.retry, delay: delayOf(given, defaults) };
  return { concurrency, timeoutMs, prefetchMessages: messages, prefetchBytes: bytes, maxParked, silenceMs, use, retry };
}

/** Merges the parts of a delay with the broker's default; a list or a function replaces it. */
function delayOf(given: ConsumeOptions, defaults: ConsumeOptions): NonNullable<RetryPolicy["delay"]> {
  const [own, usual] = [given.retry?.delay, defaults.retry?.delay];
  if (own === undefined) return usual ?? {};
  return isParts(own) && isParts(usual) ? { ...usual, ...own } : own;
}

function isParts(delay: RetryPolicy["delay"] | null): delay is RetryDelay | undefined {
  return delay === undefined || (typeof delay === "object" && delay !== null && !Array.isArray(delay));
}

const BROKER_OPTIONS = [
  "destinations",
  "declare",
  "require",
  "publish",
  "consume",
  "use",
  "onEvent",
  "clock",
  "random",
];
const PUBLISHING_OPTIONS = ["maxMessages", "maxBytes", "whenFull", "timeoutMs"];

/** Throws `invalid` for wrong options of `createBroker`. */
export function checkBrokerOptions(options: BrokerOptions): void {
  const where = "createBroker";
  checkOptions(where, options, BROKER_OPTIONS);
  const { declare = "create", publish = {}, consume = {}, require = [] } = options;
  if (!["create", "verify", "none"].includes(declare)) {
    throw new MessagingError(
      "invalid",
      `${where} { declare } takes "create", "verify" or "none", not ${String(declare)}`,
    );
  }
  checkOptions(`${where} { publish }`, publish, PUBLISHING_OPTIONS);
  for (const name of ["maxMessages", "maxBytes", "timeoutMs"] as const) {
    if (publish[name] !== undefined) checkInteger(`${where} { publish.${name} }`, publish[name], 1);
  }
  if (publish.whenFull !== undefined && publish.whenFull !== "wait" && publish.whenFull !== "fail") {
    throw new MessagingError(
      "invalid",
      `${where} { publish.whenFull } takes "wait" or "fail", not ${String(publish.whenFull)}`,
    );
  }
  checkOptions(`${where} { consume }`, consume, CONSUME_OPTIONS);
  const { retry } = consumerOptions(`${where} { consume }`, {}, consume);
  clockOf(`${where} { clock }`, options.clock);
  const random = randomOf(`${where} { random }`, options.random);
  retryPolicy(`${where} { consume }`, retry, { random, notice: () => {} });
  for (const capability of require) {
    if (CAPABILITY_NAMES.includes(capability)) continue;
    throw new MessagingError(
      "invalid",
      `${where} { require } knows ${CAPABILITY_NAMES.join(", ")}, not ${String(capability)}`,
    );
  }
}
