import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Broker, Clock } from "../../core/index.ts";
import { checkFunction } from "./options.ts";

/** The options of `backlog`. */
export interface BacklogOptions {
  /** For a topic: the subscription. */
  readonly subscription?: string;
  /** How long a message may wait: what the recommended number of consumers is for, in milliseconds. Default 10,000. */
  readonly targetDelayMs?: number;
  /** The least and the most consumers recommended. Default 1, and no most. */
  readonly minConsumers?: number;
  readonly maxConsumers?: number;
  /**
   * How many processes like this one consume at present, for example what the scheduler says. What this one measures is
   * multiplied by it. Default: 1.
   */
  readonly consumers?: () => number;
  /** How long `for await` waits between two readings, in milliseconds. Default 5,000. */
  readonly intervalMs?: number;
  /** Rates are those of the last so many milliseconds. Default 60,000. */
  readonly windowMs?: number;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** What a backlog is read from: a broker object. */
export type BacklogSource = Pick<Broker, "depth" | "status">;

/** Options with nothing left open. */
export type BacklogSettings = Required<Omit<BacklogOptions, "subscription">>;

/** Fills in the defaults; throws `invalid` for what makes no sense. */
export function backlogSettings(options: BacklogOptions): BacklogSettings {
  const where = "backlog";
  checkOptions(where, options, [
    "subscription",
    "targetDelayMs",
    "minConsumers",
    "maxConsumers",
    "consumers",
    "intervalMs",
    "windowMs",
    "clock",
  ]);
  const settings: BacklogSettings = {
    targetDelayMs: options.targetDelayMs ?? 10_000,
    minConsumers: options.minConsumers ?? 1,
    maxConsumers: options.maxConsumers ?? Number.POSITIVE_INFINITY,
    consumers: options.consumers ?? (() => 1),
    intervalMs: options.intervalMs ?? 5_000,
    windowMs: options.windowMs ?? 60_000,
    clock: clockOf(`${where} { clock }`, options.clock),
  };
  checkInteger(`${where} { targetDelayMs }`, settings.targetDelayMs, 1);
  checkInteger(`${where} { minConsumers }`, settings.minConsumers, 0);
  if (options.maxConsumers !== undefined) {
    checkInteger(`${where} { maxConsumers }`, settings.maxConsumers, Math.max(settings.minConsumers, 1));
  }
  checkFunction(`${where} { consumers }`, settings.consumers);
  checkInteger(`${where} { intervalMs }`, settings.intervalMs, 1);
  checkInteger(`${where} { windowMs }`, settings.windowMs, 1_000);
  return settings;
}
