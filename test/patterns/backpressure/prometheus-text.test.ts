import { describe, expect, it } from "vitest";
import { type BacklogReading, prometheusText } from "../../../patterns/backpressure/index.ts";

const READING: BacklogReading = {
  source: "orders",
  at: new Date(0),
  depth: 42,
  unsettled: 3,
  exact: true,
  oldestAgeMs: 1_500,
  handled: 1_000_000,
  deadLettered: 12,
  drainPerSecond: 10.25,
  arrivalPerSecond: 0,
  handlingMs: 20,
  consumersRecommended: 2,
};

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)\{source="((?:[^"\\\n]|\\["\\n])*)"\} (\S+)$/;

/** Reads the format as its specification says, strictly; throws for anything else. */
function parse(text: string): Map<string, { type: string; help: string; samples: Map<string, number> }> {
  if (!text.endsWith("\n")) throw new Error("the last line must end with a line feed");
  const metrics = new Map<string, { type: string; help: string; samples: Map<string, number> }>();
  let help: [string, string] | undefined;
  let current: string | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const [, word, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line) ?? [];
    if (word === "HELP") {
      if (!NAME.test(name) || metrics.has(name)) throw new Error(`HELP again, or of no name: ${line}`);
      help = [name, rest.replaceAll("\\n", "\n").replaceAll("\\\\", "\\")];
    } else if (word === "TYPE") {
      if (help?.[0] !== name || !["counter", "gauge"].includes(rest)) throw new Error(`not a type: ${line}`);
      current = name;
      metrics.set(name, { type: rest, help: help[1], samples: new Map() });
    } else {
      const [, of = "", label = "", value = ""] = SAMPLE.exec(line) ?? [];
      // All lines of a metric stand together, below its type.
      if (of === "" || of !== current) throw new Error(`not a sample of ${current}: ${line}`);
      const source = label.replace(/\\(.)/g, (_, escaped: string) => (escaped === "n" ? "\n" : escaped));
      const samples = metrics.get(of)?.samples;
      if (samples?.has(source)) throw new Error(`twice: ${line}`);
      const special: Readonly<Record<string, number>> = {
        "+Inf": Number.POSITIVE_INFINITY,
        "-Inf": Number.NEGATIVE_INFINITY,
      };
      samples?.set(source, special[value] ?? Number(value));
    }
  }
  return metrics;
}

describe("prometheusText", () => {
  it("is in the text format 0.0.4, and says so", () => {
    const { contentType, body } = prometheusText([READING, { ...READING, source: "placed..billing", depth: 7 }]);
    expect(contentType).toBe("text/plain; version=0.0.4; charset=utf-8");
    const metrics = parse(body);
    expect(Object.fromEntries([...metrics].map(([name, { samples }]) => [name, samples.get("orders")]))).toEqual({
      anybroker_backlog_depth: 42,
      anybroker_backlog_unsettled: 3,
      anybroker_backlog_oldest_age_seconds: 1.5,
      anybroker_backlog_handled_total: 1_000_000,
      anybroker_backlog_dead_lettered_total: 12,
      anybroker_backlog_drain_per_second: 10.25,
      anybroker_backlog_arrival_per_second: 0,
      anybroker_backlog_handling_seconds: 0.02,
      anybroker_backlog_consumers_recommended: 2,
    });
    expect(metrics.get("anybroker_backlog_depth")?.samples.get("placed..billing")).toBe(7);
    expect(metrics.get("anybroker_backlog_handled_total")?.type).toBe("counter");
    expect(metrics.get("anybroker_backlog_depth")).toMatchObject({
      type: "gauge",
      help: "Messages ready for delivery, as reported by the broker.",
    });
  });

  it("looks like this", () => {
    const known = { ...READING, unsettled: undefined, oldestAgeMs: undefined, handlingMs: undefined };
    const { body } = prometheusText([
      { ...known, drainPerSecond: undefined, arrivalPerSecond: undefined, consumersRecommended: undefined },
    ]);
    expect(body).toBe(
      `# HELP anybroker_backlog_depth Messages ready for delivery, as reported by the broker.
# TYPE anybroker_backlog_depth gauge
anybroker_backlog_depth{source="orders"} 42
# HELP anybroker_backlog_handled_total Messages that handlers of this process finished.
# TYPE anybroker_backlog_handled_total counter
anybroker_backlog_handled_total{source="orders"} 1000000
# HELP anybroker_backlog_dead_lettered_total Messages that this process dead-lettered.
# TYPE anybroker_backlog_dead_lettered_total counter
anybroker_backlog_dead_lettered_total{source="orders"} 12
`,
    );
  });

  it("escapes what a label must escape, and writes the numbers that are none", () => {
    const source = 'a "quoted" \\ name\nin two lines \\n';
    const { body } = prometheusText([
      { ...READING, source, drainPerSecond: Number.POSITIVE_INFINITY, arrivalPerSecond: Number.NaN, depth: 1e21 },
    ]);
    const metrics = parse(body);
    expect(metrics.get("anybroker_backlog_drain_per_second")?.samples.get(source)).toBe(Number.POSITIVE_INFINITY);
    expect(metrics.get("anybroker_backlog_arrival_per_second")?.samples.get(source)).toBeNaN();
    expect(metrics.get("anybroker_backlog_depth")?.samples.get(source)).toBe(1e21);
  });

  it("is empty without readings", () => {
    expect(prometheusText([]).body).toBe("");
  });

  it("leaves nothing of the reading of a broker that is away but what is counted", () => {
    const away: BacklogReading = {
      ...READING,
      depth: undefined,
      unsettled: undefined,
      consumersRecommended: undefined,
    };
    expect([...parse(prometheusText([away]).body).keys()]).not.toContain("anybroker_backlog_depth");
  });
});
