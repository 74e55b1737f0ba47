import { CAPABILITY_NAMES } from "../capabilities.ts";
import { MessagingError } from "../errors.ts";
import { clockOf, randomOf } from "../given.ts";
import { checkInteger, checkOptions } from "../names.ts";
import type { BrokerOptions } from "../options.ts";
import { CONSUME_OPTIONS, consumerOptions } from "./consumer-options.ts";
import { retryPolicy } from "./retry-policy.ts";

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

/** Refuses options of `createBroker` that make no sense, before anything is made. */
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
  retryPolicy(`${where} { consume }`, retry, { random, tell: () => {} });
  for (const capability of require) {
    if (CAPABILITY_NAMES.includes(capability)) continue;
    throw new MessagingError(
      "invalid",
      `${where} { require } knows ${CAPABILITY_NAMES.join(", ")}, not ${String(capability)}`,
    );
  }
}
