import { columns } from "../columns.ts";
import { type Frame, nearName, withBroker } from "../frame.ts";
import { type Compared, compare, wantedDestinations } from "../standing.ts";
import { placeOf } from "../target.ts";
import type { Paint } from "../terminal.ts";
import { verb } from "../verb.ts";

/** The JSON of a comparison. */
export const COMPARED_JSON = {
  broker: "",
  destinations:
    "`destination`, `standing` (`same`, `missing`, `different`, `unknown`), `problems`, `meant` (a similar name on the broker)",
};

export const topologyDiff = verb({
  name: "topology diff",
  summary: "Compare the broker with what is declared",
  teaches: `Compares each destination with the broker: same, missing, different, or unknown (such as bindings on RabbitMQ without managementUrl). Changes nothing, and ends with 0 whatever it finds.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {},
  examples: [
    ["topology diff", "all destinations of the configuration"],
    ["topology diff --broker staging --json", "on another broker of the configuration, for a program"],
  ],
  json: COMPARED_JSON,
  exits: {
    unavailable: "",
    "not-allowed": "",
    configuration: "",
  },
  async run({ destinations = [] }, frame) {
    const { label, compared } = await compareAll(frame, destinations);
    return { json: { broker: label, destinations: compared }, text: comparedText(frame.terminal.paint, compared) };
  },
});

/** Compares the named destinations with the broker. */
export async function compareAll(
  frame: Frame,
  addresses: readonly string[],
): Promise<{ readonly label: string; readonly compared: readonly Compared[] }> {
  const wanted = wantedDestinations(frame, addresses);
  return withBroker(frame, { destinations: [] }, async ({ adapter, label }) => ({
    label,
    compared: await Promise.all(
      (await compare(adapter, wanted)).map(async (one, index): Promise<Compared> => {
        const destination = wanted[index];
        if (one.standing !== "missing" || destination === undefined) return one;
        const meant = await nearName(adapter, placeOf(destination), frame.configuration.destinations ?? []);
        return meant === undefined ? one : { ...one, meant };
      }),
    ),
  }));
}

/** The text of a comparison. */
export function comparedText(paint: Paint, compared: readonly Compared[]): string {
  const rows = compared.map(({ destination, standing }) => [{ painted: painted(paint, standing) }, destination]);
  const meant = compared.flatMap((one) =>
    one.meant === undefined ? [] : [`${one.destination} does not exist: did you mean ${one.meant}?`],
  );
  // Missing ones need no further problems.
  const others = compared.filter(({ standing }) => standing !== "missing");
  const problems = others.flatMap(({ problems }) =>
    problems.map(({ code, message }) => `${paint.red(code)} ${message}`),
  );
  return [columns(paint, ["STATE", { name: "DESTINATION", when: "whole" }], rows), ...problems, ...meant].join("\n");
}

function painted(paint: Paint, standing: Compared["standing"]): string {
  if (standing === "same") return paint.green(standing);
  return standing === "missing" ? paint.yellow(standing) : paint.red(standing);
}
