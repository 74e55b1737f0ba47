import type { BacklogReading } from "./backlog.ts";

/** The response of an HTTP endpoint; see {@link prometheusText}. */
export interface PrometheusText {
  /** The value of the header `Content-Type`. */
  readonly contentType: string;
  readonly body: string;
}

interface Metric {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  readonly value: (reading: BacklogReading) => number | undefined;
}

const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

const seconds = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / 1_000);

const METRICS: readonly Metric[] = [
  {
    name: "anybroker_backlog_depth",
    type: "gauge",
    help: "Messages ready for delivery, as reported by the broker.",
    value: ({ depth }) => depth,
  },
  {
    name: "anybroker_backlog_unsettled",
    type: "gauge",
    help: "Messages delivered and not settled, if the broker reports them.",
    value: ({ unsettled }) => unsettled,
  },
  {
    name: "anybroker_backlog_oldest_age_seconds",
    type: "gauge",
    help: "Upper bound for the age of the oldest waiting message.",
    value: ({ oldestAgeMs }) => seconds(oldestAgeMs),
  },
  {
    name: "anybroker_backlog_handled_total",
    type: "counter",
    help: "Messages that handlers of this process finished.",
    value: ({ handled }) => handled,
  },
  {
    name: "anybroker_backlog_dead_lettered_total",
    type: "counter",
    help: "Messages that this process dead-lettered.",
    value: ({ deadLettered }) => deadLettered,
  },
  {
    name: "anybroker_backlog_drain_per_second",
    type: "gauge",
    help: "Messages handled or dead-lettered per second.",
    value: ({ drainPerSecond }) => drainPerSecond,
  },
  {
    name: "anybroker_backlog_arrival_per_second",
    type: "gauge",
    help: "Messages that arrived per second.",
    value: ({ arrivalPerSecond }) => arrivalPerSecond,
  },
  {
    name: "anybroker_backlog_handling_seconds",
    type: "gauge",
    help: "Average duration of a handler.",
    value: ({ handlingMs }) => seconds(handlingMs),
  },
  {
    name: "anybroker_backlog_consumers_recommended",
    type: "gauge",
    help: "Processes like this one that are needed to hold the target delay.",
    value: ({ consumersRecommended }) => consumersRecommended,
  },
];

/**
 * Formats readings in the text format of Prometheus, version 0.0.4, for an endpoint of your HTTP server:
 *
 *     const { contentType, body } = prometheusText(await Promise.all(meters.map((meter) => meter.read())));
 *
 * One sample per metric and label `source`. Unknown values are left out. Pass one reading per source.
 */
export function prometheusText(readings: readonly BacklogReading[]): PrometheusText {
  const blocks = METRICS.map((metric) => block(metric, readings)).filter((text) => text !== "");
  return { contentType: CONTENT_TYPE, body: blocks.join("") };
}

function block({ name, type, help, value }: Metric, readings: readonly BacklogReading[]): string {
  const samples = readings.flatMap((reading) => {
    const known = value(reading);
    return known === undefined ? [] : [`${name}{source="${escapeLabel(reading.source)}"} ${formatNumber(known)}\n`];
  });
  if (samples.length === 0) return "";
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${samples.join("")}`;
}

/** Escapes the three characters that the format requires. */
function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

/** Formats a number for Go's `ParseFloat`. */
function formatNumber(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  return value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value);
}
