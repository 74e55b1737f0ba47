/** Any value that JSON can carry. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;

/** An object that JSON can carry. */
export interface JsonObject {
  readonly [name: string]: JsonValue;
}

/** The `info` of a document: title and version, and whatever else AsyncAPI knows there. */
export interface AsyncApiInfo extends JsonObject {
  readonly title: string;
  readonly version: string;
}

/** A server of a document: its host and protocol, as in `amqps`, and whatever else AsyncAPI knows there. */
export interface AsyncApiServer extends JsonObject {
  readonly host: string;
  readonly protocol: string;
}

/** An AsyncAPI 3.0 document, as plain data: for `JSON.stringify`, or any writer of YAML. */
export interface AsyncApiDocument {
  readonly asyncapi: "3.0.0";
  readonly info: AsyncApiInfo;
  readonly servers?: Readonly<Record<string, AsyncApiServer>>;
  readonly defaultContentType: string;
  readonly channels: Readonly<Record<string, JsonObject>>;
  readonly operations: Readonly<Record<string, JsonObject>>;
  readonly components: Readonly<Record<string, JsonObject>>;
}

/** The entries under their names, in the order of these: the same whatever order they came in. */
export function sorted<Value>(entries: Iterable<readonly [name: string, value: Value]>): Record<string, Value> {
  return Object.fromEntries([...entries].sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0)));
}

/** What is left without those that are undefined. */
export function given(entries: Readonly<Record<string, JsonValue | undefined>>): JsonObject {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as JsonObject;
}
