import type { ExitName } from "../exit-codes.ts";
import type { Compared } from "../standing.ts";
import { verb } from "../verb.ts";
import { COMPARED_JSON, compareAll, comparedText } from "./topology-diff.ts";

export const topologyVerify = verb({
  name: "topology verify",
  summary: "Check that everything stands on the broker as declared",
  teaches: `As "topology diff", as a check for a pipeline: it ends with 0 only if everything stands as declared. Creates and changes nothing. What cannot be compared is "unknown" and no success: RabbitMQ compares what stands for those who may configure it, and tells bindings by its management API alone, so give managementUrl in its URL (?managementUrl=https://host:15671).`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {},
  examples: [["topology verify --broker production", "before an application is rolled out"]],
  json: { ...COMPARED_JSON, verified: "whether everything stands as declared" },
  exits: {
    configuration: "something is missing or different, or two destinations contradict each other",
    unavailable: "the broker cannot be reached, or something could not be compared there",
    "not-allowed": "it refuses the login, or a right without which something could not be compared",
  },
  async run({ destinations = [] }, frame) {
    const { label, compared } = await compareAll(frame, destinations);
    const standings = compared.map(({ standing }) => standing);
    const verified = standings.every((standing) => standing === "same");
    const isKnown = !standings.every((standing) => standing === "same" || standing === "unknown");
    const { paint } = frame.terminal;
    const next = [
      ...(standings.includes("missing") ? ['"anybroker topology create" creates what is missing'] : []),
      ...(standings.includes("different")
        ? ["what differs is not changed: declare it as it is on the broker, or drain and remove it first"]
        : []),
    ];
    const end = verified
      ? paint.green("everything exists as declared")
      : isKnown
        ? paint.red(`not everything exists as declared: ${next.join("; ")}`)
        : paint.red("not everything could be compared with the declarations");
    return {
      json: { broker: label, destinations: compared, verified },
      text: `${comparedText(paint, compared)}\n${end}`,
      exit: verified ? "done" : isKnown ? "configuration" : exitOfUnknown(compared),
    };
  },
});

/** The exit for destinations that could not be compared. */
function exitOfUnknown(compared: readonly Compared[]): ExitName {
  const codes = compared.flatMap(({ problems }) => problems.map(({ code }) => code));
  return codes.includes("unauthorized") ? "not-allowed" : "unavailable";
}
