/** A JSON value. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  readonly [name: string]: JsonValue;
}

/** The `info` of a document: title, version and other fields of AsyncAPI. */
export interface AsyncApiInfo extends JsonObject {
  readonly title: string;
  readonly version: string;
}

/** A server of a document: host, protocol such as `amqps`, and other fields of AsyncAPI. */
export interface AsyncApiServer extends JsonObject {
  readonly host: string;
  readonly protocol: string;
}

/** An AsyncAPI 3.0 document as plain data, for `JSON.stringify` or a YAML writer. */
export interface AsyncApiDocument {
  readonly asyncapi: "3.0.0";
  readonly info: AsyncApiInfo;
  readonly servers?: Readonly<Record<string, AsyncApiServer>>;
  readonly defaultContentType: string;
  readonly channels: Readonly<Record<string, JsonObject>>;
  readonly operations: Readonly<Record<string, JsonObject>>;
  readonly components: Readonly<Record<string, JsonObject>>;
}

/** An object of the entries, sorted by name. */
export function sorted<Value>(entries: Iterable<readonly [name: string, value: Value]>): Record<string, Value> {
  return Object.fromEntries([...entries].sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0)));
}

/** The object without undefined values. */
export function given(entries: Readonly<Record<string, JsonValue | undefined>>): JsonObject {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as JsonObject;
}
