import type { Codec } from "../core/codec.ts";
import type { Queue, Topic } from "../core/destination.ts";
import { inexactNumbers } from "../core/exact-numbers.ts";
import { CommandError } from "./exit-codes.ts";

/** How a body on the command line is meant. */
export interface BodyForm {
  /** A JSON text, not JSON. */
  readonly text: boolean;
  /** The bytes as they are. */
  readonly raw: boolean;
  readonly contentType: string | undefined;
}

/** The body that bytes are. Throws a `CommandError` that holds nothing of it. `where` is said of what is wrong. */
export function bodyOf(bytes: Uint8Array, { text, raw }: BodyForm, where: string): unknown {
  if (raw) return bytes;
  const decoded = Buffer.from(bytes).toString("utf8");
  if (text) return decoded;
  return jsonOf(
    decoded,
    where,
    `quote it for the shell, as in '{"id":"o-1"}', or give --text or --raw`,
    "give --raw with --content-type application/json, which sends the bytes as they are",
  );
}

/**
 * The value of a JSON text. Throws a `CommandError` that holds nothing of it, with what to do about a text that is no
 * JSON, and about a number in it that JavaScript would change.
 */
export function jsonOf(text: string, where: string, otherwise: string, withNumbers: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new CommandError("data", `${where} is no JSON: ${otherwise}`);
  }
  if (inexactNumbers(text).length === 0) return value;
  throw new CommandError(
    "data",
    `${where} holds a number that JavaScript would change, such as an integer beyond 2^53: ${withNumbers}`,
  );
}

/** A destination that takes bytes as they are, and no schema: for `--raw`. */
export function rawDestination<Of extends Queue<never, unknown> | Topic<never, unknown>>(
  of: Of,
  contentType?: string,
): Of {
  const codec: Codec = {
    contentType: contentType ?? "application/octet-stream",
    encode: (body) => body as Uint8Array,
    decode: (bytes) => bytes,
  };
  const { key: _, ...options } = of.options;
  return { ...of, schema: undefined, options: { ...options, codec } };
}

/** Headers from `name=value`. Throws a `CommandError` for what is none. */
export function headersOf(given: readonly string[]): Readonly<Record<string, string>> {
  const headers: Record<string, string> = Object.create(null);
  for (const text of given) {
    const at = text.indexOf("=");
    if (at < 1) throw new CommandError("usage", `--header takes name=value, not "${text}"`);
    const name = text.slice(0, at);
    if (name in headers) throw new CommandError("usage", `--header ${name} was given twice`);
    headers[name] = text.slice(at + 1);
  }
  return headers;
}
