import type { OutgoingMessage } from "../../core/adapter.ts";
import { type Address, addressName } from "../../core/address.ts";
import type { BrokerObserver, Place } from "./simulated-broker.ts";
import type { Plan } from "./work.ts";

/** One message that somebody tried to send. */
export interface Sent {
  readonly id: string;
  readonly number: number;
  readonly sources: readonly string[];
  readonly key: string | undefined;
  readonly plan: Plan;
  readonly at: number;
  readonly delayMs: number;
  readonly ttlMs: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** How its promise ended: `confirmed`, or the error's code; `died` with its process. */
  outcome: string | undefined;
}

/** What happened to one message at one source. */
export interface Entry {
  readonly source: string;
  readonly id: string;
  readonly sent: Sent | undefined;
  /** Stored there by senders, copies apart. */
  stored: number;
  /** Where it stands now: to be handled, and in the dead letters. */
  standing: number;
  dead: number;
  starts: number;
  failures: number;
  /** Starts that were no attempts. */
  postponed: number;
  effects: number;
  /** Came back without being settled; of those, counted by the broker as redeliveries. */
  returns: number;
  redeliveries: number;
  /** Something happened after which it may come twice: more than the plain course must be allowed. */
  disturbed: boolean;
  /** How often a process died that ran it or, as far as others know, may have. */
  crashes: number;
  /** Of those, how often its handler did run. */
  crashesInHandler: number;
  /** No start is due before. */
  notBefore: number;
}

/** Books everything that happens to messages, and judges at once what can be judged at once. */
export class Ledger implements BrokerObserver {
  readonly violations: string[] = [];
  readonly lines: string[] = [];
  readonly sent = new Map<string, Sent>();
  readonly entries = new Map<string, Entry>();
  readonly #byKey = new Map<string, Sent[]>();
  readonly #ordered: ReadonlySet<string>;
  readonly #now: () => number;

  constructor(ordered: ReadonlySet<string>, now: () => number) {
    this.#ordered = ordered;
    this.#now = now;
  }

  log(line: string): void {
    this.lines.push(`${this.#now().toFixed(3)} ${line}`);
  }

  violated(what: string): void {
    this.log(`VIOLATION ${what}`);
    this.violations.push(`at ${this.#now().toFixed(0)} ms: ${what}`);
  }

  entry(source: string, id: string): Entry {
    const name = `${source}/${id}`;
    let entry = this.entries.get(name);
    if (entry === undefined) {
      const sent = this.sent.get(id);
      const notBefore = sent === undefined ? 0 : sent.at + sent.delayMs;
      const none = { stored: 0, standing: 0, dead: 0, starts: 0, failures: 0, postponed: 0 };
      const nothing = { effects: 0, returns: 0, redeliveries: 0, crashes: 0, crashesInHandler: 0 };
      entry = { source, id, sent, ...none, ...nothing, disturbed: false, notBefore };
      this.entries.set(name, entry);
      if (sent !== undefined && !sent.sources.includes(source)) this.violated(`${name} was never sent there`);
    }
    return entry;
  }

  sending(sent: Sent): void {
    this.sent.set(sent.id, sent);
    this.log(`send ${sent.number} ${sent.plan.kind} ${sent.id}`);
    if (sent.key === undefined) return;
    const name = `${sent.sources[0]}/${sent.key}`;
    const ofKey = this.#byKey.get(name);
    if (ofKey === undefined) this.#byKey.set(name, [sent]);
    else ofKey.push(sent);
  }

  ended(sent: Sent, outcome: string, deadline: number): void {
    this.log(`sent ${sent.number} ${outcome}`);
    if (sent.outcome !== undefined && sent.outcome !== "died") this.violated(`send ${sent.number} ended twice`);
    sent.outcome = outcome;
    if (this.#now() > deadline + 0.001) this.violated(`send ${sent.number} ended ${outcome} after its deadline`);
  }

  /** Messages of the same key sent before this one, of those that order is kept among. */
  *#before(sent: Sent, source: string): Iterable<Entry> {
    if (sent.key === undefined || !this.#ordered.has(source)) return;
    for (const earlier of this.#byKey.get(`${sent.sources[0]}/${sent.key}`) ?? []) {
      if (earlier === sent) return;
      yield this.entry(source, earlier.id);
    }
  }

  stored(place: Place, message: OutgoingMessage): void {
    const entry = this.entry(sourceOf(place.address), message.id);
    this.log(`stored ${place.name} ${message.id}`);
    const first = entry.stored === 0;
    if (place.address.kind === "dead-letters") {
      entry.dead++;
      return;
    }
    entry.standing++;
    if (message.headers["anybroker-attempts"] !== undefined) return;
    entry.stored++;
    const { sent } = entry;
    if (!first || sent === undefined) return;
    for (const later of this.#byKey.get(`${sent.sources[0]}/${sent.key}`) ?? []) {
      if (!this.#ordered.has(entry.source) || later.number <= sent.number) continue;
      const overtaken = (this.entries.get(`${entry.source}/${later.id}`)?.stored ?? 0) > 0;
      if (overtaken) this.violated(`${entry.source}: ${sent.number} was stored behind ${later.number} of its key`);
    }
  }

  removed(place: Place, message: OutgoingMessage): void {
    const entry = this.entry(sourceOf(place.address), message.id);
    this.log(`removed ${place.name} ${message.id}`);
    entry.standing--;
    if (entry.standing + entry.dead + entry.effects > 0) return;
    this.violated(`${entry.source}/${nameOf(entry)} was removed without an effect or a copy`);
  }

  returned(place: Place, message: OutgoingMessage, counted: boolean): void {
    const entry = this.entry(sourceOf(place.address), message.id);
    this.log(`returned ${place.name} ${message.id} ${counted}`);
    entry.returns++;
    if (counted) entry.redeliveries++;
    entry.disturbed = true;
  }

  uncertain(message: OutgoingMessage): void {
    this.log(`uncertain ${message.id}`);
    for (const sources of [["work"], ["events..alpha", "events..beta"]]) {
      const sent = this.sent.get(message.id);
      if (sent !== undefined && !sources.some((source) => sent.sources.includes(source))) continue;
      for (const source of sources) this.entry(source, message.id).disturbed = true;
    }
  }

  /** A handler starts. Returns which start of the message it is. */
  started(source: string, id: string, attempt: number): number {
    const entry = this.entry(source, id);
    entry.starts++;
    this.log(`start ${source} ${nameOf(entry)} attempt ${attempt}`);
    if (entry.stored === 0) this.violated(`${source}/${nameOf(entry)} was handled and never stored`);
    if (entry.effects > 0 && !entry.disturbed) this.violated(`${source}/${nameOf(entry)} was started after its effect`);
    if (this.#now() < entry.notBefore && !entry.disturbed) {
      this.violated(`${source}/${nameOf(entry)} was started ${entry.notBefore - this.#now()} ms early`);
    }
    if (!entry.disturbed && attempt !== entry.starts - entry.postponed) {
      this.violated(`${source}/${nameOf(entry)}: start ${entry.starts} was called attempt ${attempt}`);
    }
    if (entry.sent !== undefined && entry.starts === 1) {
      for (const earlier of this.#before(entry.sent, source)) {
        if (earlier.stored === 0 || earlier.effects + earlier.dead > 0) continue;
        this.violated(`${source}: ${nameOf(entry)} was started before ${nameOf(earlier)} of its key was done`);
      }
    }
    return entry.starts;
  }

  /** The process died while its handler ran, or was about to or had just ended as far as others know. */
  crashed(name: string, ran: boolean): void {
    const entry = this.entries.get(name);
    if (entry === undefined) return;
    entry.crashes++;
    if (ran) entry.crashesInHandler++;
    this.log(`crash ${name} ${ran}`);
  }

  effected(source: string, id: string): void {
    const entry = this.entry(source, id);
    entry.effects++;
    this.log(`effect ${source} ${nameOf(entry)}`);
  }

  failed(source: string, id: string, pauseMs: number): void {
    const entry = this.entry(source, id);
    entry.failures++;
    entry.notBefore = this.#now() + pauseMs;
    this.log(`failure ${source} ${nameOf(entry)}`);
  }

  postponed(source: string, id: string, pauseMs: number): void {
    const entry = this.entry(source, id);
    entry.postponed++;
    entry.notBefore = this.#now() + pauseMs;
    this.log(`postponed ${source} ${nameOf(entry)}`);
  }
}

export function nameOf(entry: Entry): string {
  return `${entry.sent?.number ?? "foreign"} (${entry.sent?.plan.kind ?? entry.id})`;
}

/** The source that a place belongs to. */
export function sourceOf(address: Address): string {
  return addressName(address.kind === "dead-letters" ? address.of : address);
}
