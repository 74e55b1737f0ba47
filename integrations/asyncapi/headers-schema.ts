import { HEADER } from "../../core/system-headers.ts";
import type { BrokerMessages } from "./broker-bindings.ts";
import { given, type JsonObject, sorted } from "./document.ts";

const WHOLE_NUMBER = "^[0-9]+$";

/** The engine's own headers on messages that are not dead. Exhaustive: a new one does not compile without its words. */
const ENGINE_HEADERS: Readonly<Record<Exclude<keyof typeof HEADER, `dead${string}`>, JsonObject>> = {
  publishedAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 of the first publishing; absent where the id tells it.",
  },
  attempts: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How many attempts to handle the message were made on earlier copies of it.",
  },
  firstFailedAt: { type: "string", format: "date-time", description: "The time of the first failed attempt." },
  dueAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 before which the message is not to be handled.",
  },
  expiresAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 after which the message is not to be handled.",
  },
  replays: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How often the message was sent back from the dead letters.",
  },
  cut: { type: "string", description: "What of the message was cut so that a copy of it could be made." },
  replayRun: { type: "string", description: "The run that sent it back last." },
  editedFrom: { type: "string", description: "The id of the message that this is an edited copy of." },
  moves: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How often the message was moved from one broker to another.",
  },
};

/** The schema of a message's headers on the wire: the library's own, and any others as texts. */
export function headersSchema(messages: BrokerMessages, correlationHeader: string | undefined): JsonObject {
  const { headers, required = [], packed = false } = messages;
  const engine = Object.entries(ENGINE_HEADERS).map(
    ([name, schema]) => [HEADER[name as keyof typeof ENGINE_HEADERS], schema] as const,
  );
  const correlation = { type: "string", description: "What belongs together has the same value here." };
  return given({
    type: "object",
    description:
      "Headers, all of them texts. Those that are listed here are anybroker's own; an application adds others.",
    properties: sorted([
      ...(packed ? [] : engine),
      ...Object.entries(headers),
      ...(correlationHeader === undefined ? [] : [[correlationHeader, correlation] as const]),
    ]),
    required: required.length === 0 ? undefined : [...required].sort(),
    additionalProperties: { type: "string" },
  });
}
