import type { ExitName } from "../exit-codes.ts";
import type { Compared } from "../standing.ts";
import { verb } from "../verb.ts";
import { COMPARED_JSON, compareAll, comparedText } from "./topology-diff.ts";

export const topologyVerify = verb({
  name: "topology verify",
  summary: "Check that everything exists on the broker as declared",
  teaches: `As "topology diff", but ends with 0 only if everything exists as declared, for pipelines. "unknown" is no success: on RabbitMQ the user needs the right to configure, and bindings need managementUrl in the URL (?managementUrl=https://host:15671).`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {},
  examples: [["topology verify --broker production", "before an application is rolled out"]],
  json: { ...COMPARED_JSON, verified: "" },
  exits: {
    configuration: "",
    unavailable: "also: it could not compare something",
    "not-allowed": "",
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
