import type { OutgoingMessage } from "../adapter.ts";
import type { Capabilities } from "../capabilities.ts";
import { HEADER, headerBytes } from "../system-headers.ts";
import { clean } from "./copies.ts";

/** What a copy may carry beside the body and the engine's own headers. */
export type HeaderLimits = Pick<Capabilities, "maxHeaders" | "maxHeaderBytes">;

/** Longer ones come from other senders only. */
const LONGEST_KEY_BYTES = 2_000;
const LONGEST_PROPERTY_BYTES = 255;
/** Longer than any that the engine writes. */
const LONGEST_OWN_BYTES = 4_096;
const LONGEST_CUT = 1_024;
/** For what has to be as small as it can be. */
const SHORT = 64;
const OWN: readonly string[] = Object.values(HEADER);
/** In words, what stands in a copy's `foreign`. */
const FOREIGN = "the sender's own properties";

/**
 * The copy without what is over the limits of headers, and with a header that says what was cut; undefined if nothing is
 * over them. The body stays as it is, and what came from another sender beside the headers as long as there is room for it.
 */
export function reducedCopy(letter: OutgoingMessage, limits: HeaderLimits): OutgoingMessage | undefined {
  const cut: string[] = [];
  const headers: Record<string, string> = Object.create(null);
  let count = 0;
  let bytes = 0;
  for (const name in letter.headers) {
    const value = letter.headers[name] as string;
    const size = Buffer.byteLength(name) + Buffer.byteLength(value);
    if (OWN.includes(name) && size <= LONGEST_OWN_BYTES) {
      headers[name] = value;
    } else if (count < limits.maxHeaders && bytes + size <= limits.maxHeaderBytes) {
      headers[name] = value;
      count++;
      bytes += size;
    } else cut.push(`${name} (${size} bytes)`);
  }
  const properties = keptProperties(letter, cut);
  const { foreign, ...rest } = letter;
  const hasRoom = foreign === undefined || bytes + foreign.bytes <= limits.maxHeaderBytes;
  if (!hasRoom) cut.push(`${FOREIGN} (${foreign.bytes} bytes)`);
  if (cut.length === 0) return undefined;
  headers[HEADER.cut] = cutText(letter, cut, LONGEST_CUT);
  return sized({ ...(hasRoom ? letter : rest), ...properties, headers });
}

/**
 * The smallest copy that still says why: of the headers only the engine's own, with the beginning of the error. Undefined
 * if the copy is as small already.
 */
export function barestCopy(letter: OutgoingMessage): OutgoingMessage | undefined {
  const cut: string[] = [];
  const headers: Record<string, string> = Object.create(null);
  let shortened = false;
  for (const name in letter.headers) {
    const value = letter.headers[name] as string;
    if (!OWN.includes(name)) cut.push(name);
    else if (value.length <= SHORT) headers[name] = value;
    else {
      headers[name] = clean(value, SHORT);
      shortened = true;
    }
  }
  const properties = keptProperties(letter, cut);
  const { foreign, ...rest } = letter;
  if (foreign !== undefined) cut.push(FOREIGN);
  if (cut.length === 0 && !shortened) return undefined;
  if (cut.length > 0) headers[HEADER.cut] = cutText(letter, cut, 2 * SHORT);
  return sized({ ...rest, ...properties, headers });
}

/** What AMQP, SQS and Kafka carry beside the headers; what is too long for that is added to `cut`. */
function keptProperties(
  { key, routingKey, contentType }: OutgoingMessage,
  cut: string[],
): Pick<OutgoingMessage, "key" | "routingKey" | "contentType"> {
  const kept = (name: string, value: string | undefined, most: number): string | undefined => {
    if (value === undefined || Buffer.byteLength(value) <= most) return value;
    cut.push(`the ${name} (${Buffer.byteLength(value)} bytes)`);
    return undefined;
  };
  return {
    key: kept("key", key, LONGEST_KEY_BYTES),
    routingKey: kept("routing key", routingKey, LONGEST_PROPERTY_BYTES),
    contentType: kept("content type", contentType, LONGEST_PROPERTY_BYTES),
  };
}

/** As many names as there is room for, behind what an earlier copy lost. */
function cutText({ headers }: OutgoingMessage, cut: readonly string[], longest: number): string {
  const before = headers[HEADER.cut];
  const all = before === undefined ? cut : [before, ...cut];
  let text = "";
  for (const [index, name] of all.entries()) {
    const next = text === "" ? name : `${text}, ${name}`;
    const left = all.length - index - 1;
    const ending = left === 0 ? "" : `, and ${left} more`;
    if (next.length + ending.length > longest) {
      return clean(text === "" ? `${name.slice(0, SHORT)}…${ending}` : `${text}, and ${left + 1} more`, longest);
    }
    text = next;
  }
  return clean(text, longest);
}

function sized(message: OutgoingMessage): OutgoingMessage {
  return { ...message, size: message.body.length + headerBytes(message.headers) };
}
