import type { OutgoingMessage } from "../../core/adapter.ts";
import { describeAddress } from "../../core/address.ts";
import { HEADER } from "../../core/system-headers.ts";
import { type Entry, type Ledger, nameOf, sourceOf } from "./ledger.ts";
import type { SimulatedBroker } from "./simulated-broker.ts";
import type { Variant } from "./variant.ts";

/** Errors that promise that nothing was stored. */
const NOT_STORED = ["timeout", "overloaded", "closed", "invalid", "too-large", "refused", "unsupported"];
const KNOWN = [...NOT_STORED, "confirmed", "unconfirmed", "died"];

/** What the books must show once everything has come to rest. Adds what is wrong to the ledger's violations. */
export function judge(ledger: Ledger, broker: SimulatedBroker, variant: Variant): void {
  for (const sent of ledger.sent.values()) {
    const { outcome, number, sources, id } = sent;
    if (outcome === undefined || !KNOWN.includes(outcome)) ledger.violated(`send ${number} ended ${outcome}`);
    for (const source of sources) {
      const { stored, effects, dead } = ledger.entry(source, id);
      if (outcome === "confirmed" && stored === 0) ledger.violated(`send ${number} was confirmed and never stored`);
      if (NOT_STORED.includes(outcome ?? "") && stored > 0)
        ledger.violated(`send ${number} was ${outcome} and is stored`);
      if (outcome === "confirmed" && effects + dead === 0) ledger.violated(`send ${number} is lost at ${source}`);
    }
  }
  for (const entry of ledger.entries.values()) judgeEntry(ledger, entry, variant);
  for (const place of broker.places) {
    if (place.address.kind !== "dead-letters") continue;
    for (const { message } of place.standing) {
      judgeDeadLetter(ledger, ledger.entry(sourceOf(place.address), message.id), message, variant, place.address.of);
    }
  }
}

function judgeEntry(ledger: Ledger, entry: Entry, variant: Variant): void {
  const { source, stored, standing, dead, starts, failures, effects, redeliveries, returns, disturbed, sent } = entry;
  const name = `${source}/${nameOf(entry)}`;
  if (standing !== 0) ledger.violated(`${name} stands ${standing} times in the end`);
  if (stored > 0 && effects + dead === 0) ledger.violated(`${name} vanished`);
  if (sent === undefined || stored === 0) return;
  const { plan } = sent;
  // Until it is quarantined, once with a note, and twice alone.
  const most = Math.max(variant.attempts, 4);
  if (plan.kind === "poison") {
    if (variant.profile === "poison" && starts > most)
      ledger.violated(`${name} killed ${starts} processes, not ${most}`);
    return;
  }
  // Each return and each copy of unknown end may begin the count anew, or fork it.
  const forks = 1 + returns + (disturbed ? 4 : 0);
  if (failures > variant.attempts * forks)
    ledger.violated(`${name} failed ${failures} times, ${redeliveries} returned`);
  if (disturbed || sent.ttlMs !== undefined) return;
  const fails = plan.kind === "ok" ? 0 : plan.times;
  const last = plan.kind === "postpone" ? Infinity : variant.attempts;
  const expected = plan.kind === "dead-letter" ? 1 : Math.min(fails + 1, last);
  const ends = plan.kind === "dead-letter" || fails >= last ? "dead" : "handled";
  if (starts !== expected) ledger.violated(`${name} was started ${starts} times, not ${expected}`);
  if (ends === "dead" ? dead !== 1 || effects !== 0 : dead !== 0 || effects !== 1) {
    ledger.violated(`${name} had ${effects} effects and ${dead} dead letters, and should be ${ends}`);
  }
}

function judgeDeadLetter(
  ledger: Ledger,
  entry: Entry,
  { headers, key }: OutgoingMessage,
  variant: Variant,
  origin: Parameters<typeof describeAddress>[0],
): void {
  const { sent } = entry;
  const name = `the dead letter ${entry.source}/${nameOf(entry)}`;
  const reason = headers[HEADER.deadReason] ?? "none";
  for (const header of [HEADER.deadErrorClass, HEADER.deadError, HEADER.deadFirstAt, HEADER.deadLastAt]) {
    if (headers[header] === undefined) ledger.violated(`${name} has no header ${header}`);
  }
  for (const header of [HEADER.attempts, HEADER.dueAt, HEADER.expiresAt, HEADER.firstFailedAt]) {
    if (headers[header] !== undefined) ledger.violated(`${name} has the header ${header}`);
  }
  if (headers[HEADER.deadOrigin] !== describeAddress(origin)) ledger.violated(`${name} has a wrong origin`);
  if (!/^\d+$/.test(headers[HEADER.deadAttempts] ?? "")) ledger.violated(`${name} has no count of attempts`);
  if (sent === undefined) {
    const expected = reason === "invalid" || reasons(entry, variant).includes(reason);
    if (!expected || entry.starts > 0) ledger.violated(`${name} is there for ${reason}`);
    return;
  }
  for (const [header, value] of Object.entries(sent.headers)) {
    if (headers[header] !== value && headers[HEADER.cut] === undefined)
      ledger.violated(`${name} lost the header ${header}`);
  }
  if (key !== sent.key) ledger.violated(`${name} has another key`);
  if (!reasons(entry, variant).includes(reason)) {
    ledger.violated(
      `${name} is there for ${reason}, after ${entry.starts} starts and ${entry.redeliveries} redeliveries`,
    );
  }
  const attempts = Number(headers[HEADER.deadAttempts]);
  if (!entry.disturbed && attempts !== entry.starts - entry.postponed)
    ledger.violated(`${name} tells of ${attempts} attempts`);
}

/** For which reasons this message may be dead. */
function reasons({ sent, failures, crashes, crashesInHandler }: Entry, { attempts }: Variant): readonly string[] {
  const { plan, ttlMs } = sent ?? { plan: undefined, ttlMs: undefined };
  const reasons: string[] = [];
  if (ttlMs !== undefined) reasons.push("expired");
  if (plan?.kind === "dead-letter") reasons.push("rejected");
  // A redelivery is no attempt: cuts, lapses and restarts blame nobody.
  if (failures > 0 && failures + crashes >= attempts) reasons.push("attempts");
  // Not what ran in the same process, in whichever consumer.
  if (plan?.kind === "poison" && crashes >= 3 && crashesInHandler >= 1) reasons.push("crashed");
  return reasons;
}
