import { memory } from "anybroker/memory";
import { expect, test } from "vitest";
import type { IncomingMessage } from "../../../core/adapter.ts";
import type { BrokerInternals } from "../../../core/broker-internals.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { movedCopy } from "../../../patterns/migration/bridge-copy.ts";
import { headersOf } from "../../sqs/outgoing.ts";

function copy(now: number, headers: Readonly<Record<string, string>>) {
  const clock = { now: () => now, monotonic: () => 0, schedule: () => ({}), cancel: () => {} };
  const incoming: IncomingMessage = {
    token: 1,
    id: "m",
    key: undefined,
    routingKey: undefined,
    headers: headersOf(headers),
    body: Buffer.from("{}"),
    contentType: "application/json",
    redeliveries: 0,
    native: undefined,
  };
  return movedCopy(incoming, { adapter: memory(), clock } as unknown as BrokerInternals, 1);
}

test("what is due and what expires is told by the clock, also by one that is before 1970", () => {
  for (const now of [1_700_000_000_000, -10_000]) {
    expect(copy(now, {})).toMatchObject({ delayMs: 0, ttlMs: undefined });
    const later = { [HEADER.dueAt]: String(now + 50), [HEADER.expiresAt]: String(now + 70) };
    expect(copy(now, later)).toMatchObject({ delayMs: 50, ttlMs: 70 });
    const past = { [HEADER.dueAt]: String(now - 50), [HEADER.expiresAt]: String(now - 70) };
    expect(copy(now, past)).toMatchObject({ delayMs: 0, ttlMs: 1 });
  }
});

test("times that another sender made up are none", () => {
  const odd = { [HEADER.dueAt]: "soon", [HEADER.expiresAt]: "1e300", [HEADER.moves]: "-1" };
  const { delayMs, ttlMs, headers } = copy(1_700_000_000_000, odd);
  expect([delayMs, ttlMs, headers[HEADER.moves]]).toEqual([0, undefined, "1"]);
});
