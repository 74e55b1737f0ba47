import { verb } from "../verb.ts";
import { COMPARED_JSON, compareAll, comparedText } from "./topology-diff.ts";

export const topologyVerify = verb({
  name: "topology verify",
  summary: "Check that everything stands on the broker as declared",
  teaches: `As "topology diff", as a check for a pipeline: it ends with 0 only if everything stands as declared. Creates and changes nothing, so the rights of a production role that may only look are enough.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {},
  examples: [["topology verify --broker production", "before an application is rolled out"]],
  json: { ...COMPARED_JSON, verified: "whether everything stands as declared" },
  exits: {
    configuration: "something is missing or different, or two destinations contradict each other",
    unavailable: "the broker cannot be reached",
    "not-allowed": "it refuses the login",
  },
  async run({ destinations = [] }, frame) {
    const { label, compared } = await compareAll(frame, destinations);
    const verified = compared.every(({ standing }) => standing === "same");
    const { paint } = frame.terminal;
    const end = verified
      ? paint.green("everything stands as declared")
      : paint.red('not everything stands as declared: "anybroker topology create" makes what is missing');
    return {
      json: { broker: label, destinations: compared, verified },
      text: `${comparedText(paint, compared)}\n${end}`,
      exit: verified ? "done" : "configuration",
    };
  },
});
