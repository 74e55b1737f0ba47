import type { IncomingMessage } from "../../../core/adapter.ts";
import type { MessageHeaders } from "../../../core/delivery.ts";
import { HEADER } from "../../../core/system-headers.ts";

const FAILED_AT = Date.UTC(2026, 10, 2, 11);
/** An hour later. */
export const NOW = FAILED_AT + 3_600_000;

const DEAD = {
  [HEADER.deadReason]: "attempts",
  [HEADER.deadOrigin]: 'queue "orders"',
  [HEADER.deadErrorClass]: "TypeError",
  [HEADER.deadError]: "timeout after 312 ms of order 8f3c",
  [HEADER.deadAttempts]: "5",
  [HEADER.deadFirstAt]: new Date(FAILED_AT - 60_000).toISOString(),
  [HEADER.deadLastAt]: new Date(FAILED_AT).toISOString(),
};

/** A message as an adapter gives it from the dead letters. */
export function incomingDeadLetter(given: {
  readonly id: string;
  readonly key?: string;
  readonly headers?: MessageHeaders;
  readonly body?: string | Uint8Array;
  /** What the engine wrote about its failure. */
  readonly dead?: MessageHeaders;
}): IncomingMessage {
  const { id, key, headers = {}, body = '{"n":1}', dead = DEAD } = given;
  return {
    token: undefined,
    id,
    key,
    routingKey: undefined,
    headers: Object.assign(Object.create(null), headers, dead) as MessageHeaders,
    body: typeof body === "string" ? Buffer.from(body) : body,
    contentType: "application/json",
    redeliveries: 0,
    native: undefined,
  };
}
