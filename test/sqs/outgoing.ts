import type { OutgoingMessage } from "../../core/adapter.ts";
import type { MessageHeaders } from "../../core/delivery.ts";

/** A message with what is not given left at its default. */
export function outgoing(message: Partial<OutgoingMessage> = {}): OutgoingMessage {
  const { body = Buffer.from("{}"), headers = headersOf({}) } = message;
  return {
    id: "m1",
    key: undefined,
    routingKey: undefined,
    contentType: "application/json",
    size: body.length,
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
    ...message,
    body,
    headers,
  };
}

/** Headers as the engine gives them: own keys of an object without a prototype. */
export function headersOf(
  entries: Readonly<Record<string, string>> | readonly (readonly [string, string])[],
): MessageHeaders {
  const headers: Record<string, string> = Object.create(null);
  for (const [name, value] of Array.isArray(entries) ? entries : Object.entries(entries)) headers[name] = value;
  return headers;
}
