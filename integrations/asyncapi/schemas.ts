import type { StandardJSONSchemaV1, StandardSchemaV1 } from "@standard-schema/spec";
import { thrownText } from "../../core/foreign.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { BrokerMessages } from "./bindings.ts";
import { given, type JsonObject, type JsonValue, sorted } from "./document.ts";

/** The version of JSON Schema that every AsyncAPI parser supports. */
const TARGET = "draft-07";
const FORMAT = "application/schema+json;version=draft-07";
/** Keywords whose values are not schemas. */
const VALUES = ["const", "default", "enum", "examples"];
/** Keywords whose values are objects of schemas. */
const NAMED = ["properties", "patternProperties", "definitions", "$defs", "dependencies"];

/**
 * The JSON Schema of a body, by Standard JSON Schema; otherwise an open schema with a note. `base` is its JSON pointer in the
 * document, for references within the schema.
 */
export function payloadSchema(
  schema: StandardSchemaV1 | undefined,
  side: "input" | "output",
  base: string,
): JsonObject {
  if (schema === undefined) return open("it was declared without a schema");
  const { vendor, jsonSchema } = (schema as StandardSchemaV1 & Partial<StandardJSONSchemaV1>)[
    "~standard"
  ] as Partial<StandardJSONSchemaV1.Props> & { readonly vendor: string };
  if (typeof jsonSchema?.[side] !== "function") return open(`the schema, of ${vendor}, gives no JSON Schema`);
  let made: unknown;
  try {
    made = JSON.parse(JSON.stringify(jsonSchema[side]({ target: TARGET })));
  } catch (error) {
    return open(`the schema, of ${vendor}, cannot be written as JSON Schema: ${firstLine(error)}`);
  }
  if (!isObject(made)) return open(`the schema, of ${vendor}, gives no JSON Schema`);
  const { $schema: _, $id: __, ...rest } = made;
  return { schemaFormat: FORMAT, schema: rebased(rest, `${base}/schema`) };
}

function open(why: string): JsonObject {
  return { description: `Any body: ${why}.` };
}

function firstLine(error: unknown): string {
  const [line = ""] = thrownText(error).split("\n");
  return line.replace(/\.$/, "");
}

/** Rewrites references to the schema's root for its place in the document. */
function rebased(schema: JsonObject, base: string): JsonObject {
  return Object.fromEntries(
    Object.entries(schema).map(([keyword, value]) => {
      if (keyword === "$ref" && typeof value === "string" && /^#(\/|$)/.test(value))
        return [keyword, base + value.slice(1)];
      if (VALUES.includes(keyword)) return [keyword, value];
      if (NAMED.includes(keyword) && isObject(value)) {
        return [keyword, Object.fromEntries(Object.entries(value).map(([name, each]) => [name, within(each, base)]))];
      }
      return [keyword, within(value, base)];
    }),
  );
}

function within(value: JsonValue, base: string): JsonValue {
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map((each) => within(each, base));
  return isObject(value) ? rebased(value, base) : value;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const WHOLE_NUMBER = "^[0-9]+$";

/** The engine's headers of messages that are not dead-lettered. Exhaustive: a new header needs a description to compile. */
const ENGINE_HEADERS: Readonly<Record<Exclude<keyof typeof HEADER, `dead${string}`>, JsonObject>> = {
  publishedAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 of the first publishing; absent if the id has it.",
  },
  attempts: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How many attempts were made on earlier copies of the message.",
  },
  firstFailedAt: { type: "string", format: "date-time", description: "The time of the first failed attempt." },
  dueAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 before which the message must not be handled.",
  },
  expiresAt: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "Milliseconds since 1970 after which the message must not be handled.",
  },
  replays: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How often the message was replayed from the dead letters.",
  },
  cut: { type: "string", description: "What the message lost so that a copy of it could be made." },
  replayRun: { type: "string", description: "The run that replayed it last." },
  editedFrom: { type: "string", description: "The id of the original, if this is an edited copy." },
  moves: {
    type: "string",
    pattern: WHOLE_NUMBER,
    description: "How often the message was moved from one broker to another.",
  },
};

/** The schema of a message's headers: anybroker's own, and any others as strings. */
export function headersSchema(messages: BrokerMessages, correlationHeader: string | undefined): JsonObject {
  const { headers, required = [], packed = false } = messages;
  const engine = Object.entries(ENGINE_HEADERS).map(
    ([name, schema]) => [HEADER[name as keyof typeof ENGINE_HEADERS], schema] as const,
  );
  const correlation = { type: "string", description: "The correlation id: related messages have the same value." };
  return given({
    type: "object",
    description: "Headers, all strings. Those listed here are anybroker's own; an application adds others.",
    properties: sorted([
      ...(packed ? [] : engine),
      ...Object.entries(headers),
      ...(correlationHeader === undefined ? [] : [[correlationHeader, correlation] as const]),
    ]),
    required: required.length === 0 ? undefined : [...required].sort(),
    additionalProperties: { type: "string" },
  });
}
