import type { Adapter } from "../core/adapter.ts";
import { CAPABILITY_NAMES, type CapabilityName } from "../core/capabilities.ts";
import { checkOptions, optionalText } from "../core/checks.ts";
import type { Destination } from "../core/destination.ts";
import { MessagingError } from "../core/errors.ts";
import type { MigrationControl } from "../patterns/migration/index.ts";
import type { OutboxStore } from "../patterns/outbox/index.ts";

/**
 * A broker: a URL for `fromUrl`, an adapter, or a function that makes one. Prefer the function: an adapter is opened only once,
 * and its client is then loaded only by commands that need it.
 */
export type BrokerChoice = string | Adapter | (() => Adapter | Promise<Adapter>);

/** The default export of `anybroker.config.ts`, for the command `anybroker`. Everything is optional. */
export interface Configuration {
  /** The broker of commands without `--broker`. Default: the environment variable `BROKER_URL`. */
  readonly broker?: BrokerChoice | undefined;
  /** More brokers by name, for `--broker`, `--from` and `--to`. Names have letters, digits, `-` and `_`. */
  readonly brokers?: Readonly<Record<string, BrokerChoice>>;
  /** The destinations that commands call by name, with schemas, codecs and options. `topology` and `doctor` check them. */
  readonly destinations?: readonly Destination[];
  /** Required capabilities besides those of the destinations: `BrokerOptions.require`. */
  readonly require?: readonly CapabilityName[];
  /** The outboxes for `outbox`, by name. */
  readonly outboxes?: Readonly<Record<string, OutboxStore>>;
  /**
   * Makes the control for `migrate`; it is closed after the command: `() => migrationControl({ … })`, with the same
   * destinations, store and name as in the services.
   */
  readonly migration?: () => MigrationControl | Promise<MigrationControl>;
  /** Who works here, for the audit of dead letters and the history of migrations. Default: the user of the environment. */
  readonly by?: string;
  /** Called at the end of a command, to close pools and the like. */
  readonly close?: () => void | Promise<void>;
}

const WHERE = "the configuration";
const OPTIONS = ["broker", "brokers", "destinations", "require", "outboxes", "migration", "by", "close"];
const KINDS = ["queue", "topic", "subscription"];
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]*$/;

/** Checks and returns a configuration: `export default defineConfig({ … })`. Throws `invalid` for unknown or wrong options. */
export function defineConfig(configuration: Configuration): Configuration {
  checkOptions(WHERE, configuration, OPTIONS);
  const { broker, brokers = {}, destinations = [], require = [], outboxes = {}, close } = configuration;
  if (broker !== undefined) checkBroker("broker", broker);
  for (const [name, choice] of named("brokers", brokers)) checkBroker(`brokers.${name}`, choice);
  if (!Array.isArray(destinations)) throw invalid("takes a list as destinations");
  (destinations as readonly unknown[]).forEach((destination, index) => {
    const kind = (destination as { readonly kind?: unknown } | null | undefined)?.kind;
    if (typeof kind !== "string" || !KINDS.includes(kind)) {
      throw invalid(`takes destinations made by queue(), topic() or subscription(); number ${index + 1} is none`);
    }
  });
  if (!Array.isArray(require)) throw invalid("takes a list of capabilities as require");
  for (const name of require as readonly unknown[]) {
    if (CAPABILITY_NAMES.includes(name as CapabilityName)) continue;
    const shown = typeof name === "string" ? `"${name}"` : "a value that is no string";
    throw invalid(`requires ${shown}; the capabilities are ${CAPABILITY_NAMES.join(", ")}`);
  }
  for (const [name, store] of named("outboxes", outboxes)) {
    if (typeof (store as Partial<OutboxStore> | null)?.health !== "function") {
      throw invalid(`takes outbox stores, such as postgresOutbox(pool); outboxes.${name} is none`);
    }
  }
  const { migration } = configuration;
  if (migration !== undefined && typeof migration !== "function") {
    throw invalid("takes a function as migration, such as () => migrationControl({ … })");
  }
  optionalText(WHERE, "by", configuration.by);
  if (close !== undefined && typeof close !== "function") throw invalid("takes a function as close");
  return configuration;
}

function named<Value>(option: string, values: Readonly<Record<string, Value>>): [string, Value][] {
  if (typeof values !== "object" || values === null) throw invalid(`takes an object as ${option}`);
  const entries = Object.entries(values);
  for (const [name] of entries) {
    if (!NAME.test(name)) throw invalid(`takes names of letters, digits, "-" and "_" in ${option}; "${name}" is none`);
  }
  return entries;
}

function checkBroker(option: string, choice: unknown): void {
  if (typeof choice === "string" ? choice !== "" : typeof choice === "function" || isAdapter(choice)) return;
  throw invalid(`takes a URL, an adapter such as memory(), or a function that makes one, as ${option}`);
}

/** Whether a value looks like an adapter. */
export function isAdapter(choice: unknown): choice is Adapter {
  return typeof (choice as Partial<Adapter> | null | undefined)?.physicalName === "function";
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${problem}`);
}
