import { asyncapi as describe } from "../../integrations/asyncapi/index.ts";
import { wantedDestinations } from "../comparison.ts";
import { CommandError } from "../exit-codes.ts";
import { writeText } from "../files.ts";
import { chosenBroker, madeAdapter } from "../frame.ts";
import { verb } from "../verb.ts";

export const asyncapi = verb({
  name: "asyncapi",
  summary: "Describe the destinations as an AsyncAPI 3.0 document",
  teaches: `Writes an AsyncAPI 3.0 document: channels, operations, and messages with JSON Schema as far as schemas tell. With a broker it has the broker's bindings and names. Connects to nothing. The same destinations give the same bytes.`,
  positionals: {
    destinations: { type: "string", array: true, describe: "Default: all of the configuration" },
  },
  options: {
    title: { type: "string", demandOption: true, describe: "The title of the document" },
    "document-version": { type: "string", default: "1.0.0", describe: "The version of the application" },
    payload: { choices: ["input", "output"], default: "input", describe: "What publishers send, or what handlers get" },
    plain: { type: "boolean", default: false, describe: "Without a broker: declared names, no bindings" },
    out: { type: "string", describe: "The file to write. Default: stdout" },
  },
  examples: [
    ["asyncapi --title Shop --out asyncapi.json", "with the names and bindings of the configuration's broker"],
    ["asyncapi --title Shop --plain", "of the declarations alone"],
  ],
  json: { document: "", out: "" },
  exits: {
    data: "a name that the broker cannot carry",
    "cannot-create": "",
    unavailable: "",
    configuration: "",
  },
  async run({ destinations = [], title, "document-version": version, payload, plain, out }, frame) {
    if (title.trim() === "") throw new CommandError("usage", "--title takes a text that is not empty");
    const document = describe({
      info: { title, version },
      destinations: wantedDestinations(frame, destinations),
      payload: payload === "output" ? "output" : "input",
      ...(plain ? {} : { adapter: await madeAdapter(frame, chosenBroker(frame)) }),
    });
    const text = JSON.stringify(document, null, 2);
    if (out !== undefined) await writeText(out, frame.context, `${text}\n`);
    return { json: { document, out: out ?? null }, text: out === undefined ? text : `wrote ${out}` };
  },
});
