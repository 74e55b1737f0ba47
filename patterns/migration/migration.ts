import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { checkInteger, checkOptions, LONGEST_MS, optionalText } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";
import { observe } from "../../core/foreign.ts";
import { checkBrokerOptions } from "../../core/options.ts";
import type { Migration, MigrationOptions } from "./contract.ts";
import { MovingBroker } from "./moving-broker.ts";
import { Plan } from "./plan.ts";

const OPTIONS = [
  "from",
  "to",
  "destinations",
  "state",
  "name",
  "idempotency",
  "broker",
  "instance",
  "leaseMs",
  "pollMs",
  "journal",
  "maxHeld",
  "onMigrationEvent",
];
const DEFAULT_LEASE_MS = 30_000;
const DEFAULT_POLL_MS = 1_000;
const DEFAULT_HELD = 10_000;
const SHORTEST_LEASE_MS = 300;
const POLLS_PER_LEASE = 6;

/**
 * Makes a broker object that moves from one broker to another while it is used; see {@link Migration}. It connects in `start`,
 * and only to the brokers that the state names. Throws `invalid` for wrong options.
 */
export function migration<FromNative, ToNative>(
  options: MigrationOptions<FromNative | ToNative>,
): Migration<FromNative | ToNative> {
  const where = "migration";
  checkOptions(where, options, OPTIONS);
  const { idempotency, journal = "ids", broker = {}, onMigrationEvent } = options;
  if (idempotency !== "waived" && typeof idempotency !== "function") {
    throw new MessagingError(
      "invalid",
      `${where} { idempotency } takes middleware such as idempotent(store), or "waived", because a message may arrive from both brokers`,
    );
  }
  if (journal !== "ids" && journal !== "waived") {
    throw new MessagingError("invalid", `${where} { journal } takes "ids" or "waived", not ${String(journal)}`);
  }
  if (onMigrationEvent !== undefined && typeof onMigrationEvent !== "function") {
    throw new MessagingError("invalid", `${where} { onMigrationEvent } takes a function`);
  }
  const { leaseMs = DEFAULT_LEASE_MS, maxHeld = DEFAULT_HELD } = options;
  checkInteger(`${where} { leaseMs }`, leaseMs, SHORTEST_LEASE_MS, LONGEST_MS);
  const longestPoll = Math.floor(leaseMs / POLLS_PER_LEASE);
  const { pollMs = Math.min(DEFAULT_POLL_MS, longestPoll) } = options;
  checkInteger(`${where} { pollMs }, at most a sixth of leaseMs,`, pollMs, 1, longestPoll);
  checkInteger(`${where} { maxHeld }`, maxHeld, 1);
  checkBrokerOptions(broker);
  if ("destinations" in broker) {
    throw new MessagingError("invalid", `${where} { broker.destinations } is not allowed: use { destinations }`);
  }
  const instance =
    optionalText(where, "instance", options.instance) ?? `${hostname()}.${process.pid}.${randomUUID().slice(0, 8)}`;
  return new MovingBroker<FromNative | ToNative>({
    plan: new Plan(where, options),
    idempotency: idempotency === "waived" ? undefined : idempotency,
    broker,
    instance,
    leaseMs,
    pollMs,
    journaled: journal === "ids",
    maxHeld,
    emit: (event) => observe(onMigrationEvent, event),
  });
}
