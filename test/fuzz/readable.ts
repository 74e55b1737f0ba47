import type { IncomingMessage } from "../../core/adapter.ts";

/** Whether an adapter keeps its word about a message, whoever sent it. */
export function isReadable(message: Omit<IncomingMessage, "token">): boolean {
  const { id, key, routingKey, headers, body, contentType, redeliveries } = message;
  return (
    typeof id === "string" &&
    isTextIfAny(key) &&
    isTextIfAny(routingKey) &&
    isTextIfAny(contentType) &&
    Object.getPrototypeOf(headers) === null &&
    Object.values(headers).every((value) => typeof value === "string") &&
    body instanceof Uint8Array &&
    Number.isSafeInteger(redeliveries) &&
    redeliveries >= 0
  );
}

function isTextIfAny(value: unknown): boolean {
  return value === undefined || typeof value === "string";
}
