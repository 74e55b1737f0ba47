import type { JournaledOutcome, JournalLine } from "./journal.ts";
import type { Plan } from "./plan.ts";

/** One part of a run, from its start or resume to its end. */
export interface ReportedPart extends Pick<Plan, "rate" | "ramp"> {
  readonly by: string | null;
  readonly begunAt: string;
  /** Null if it is in progress, or crashed. */
  readonly endedAt: string | null;
  /** Why it ended early; null if it was completed, or did not end. */
  readonly stopped: string | null;
}

/** How many messages have each final outcome. `came-back` is counted in addition. */
type OutcomeCounts = Readonly<Record<JournaledOutcome, number>>;

/** The results for dead letters with the same failure. */
export interface ReportedGroup extends OutcomeCounts {
  /** The fingerprint; null for missing messages. */
  readonly group: string | null;
  readonly errorClass: string | null;
  readonly error: string | null;
  readonly planned: number;
}

/** The result for one message. */
export interface ReportedMessage {
  readonly id: string;
  readonly messageId: string;
  readonly group: string | null;
  /** Null if it was not processed yet. */
  readonly outcome: Exclude<JournaledOutcome, "came-back"> | null;
  /** ISO time. */
  readonly at: string | null;
  readonly by: string | null;
  readonly detail: string | null;
  /** Whether it was dead-lettered again. */
  readonly cameBack: boolean;
}

/** The report of a run, made of its plan and its journal. Plain JSON. */
export interface RunReport
  extends Pick<Plan, "run" | "action" | "source" | "filter" | "plannedAt" | "count" | "rate" | "ramp"> {
  readonly plannedBy: string | null;
  readonly edited: "patch" | "function" | null;
  /** The destinations; for a discard, the source. */
  readonly destinations: Plan["destinations"];
  readonly refused: Plan["refused"];
  readonly parts: readonly ReportedPart[];
  readonly outcomes: OutcomeCounts;
  /** How many messages were not processed yet. */
  readonly open: number;
  readonly groups: readonly ReportedGroup[];
  /** The messages, in the order of the plan. */
  readonly messages: readonly ReportedMessage[];
}

const NONE: OutcomeCounts = Object.freeze({
  replayed: 0,
  edited: 0,
  discarded: 0,
  failed: 0,
  left: 0,
  missing: 0,
  "came-back": 0,
});

/**
 * Makes the report of a run from its plan and the lines of its journal. The last line about a message counts, except that a
 * completed message stays completed. Lines of other runs are skipped.
 */
export function runReport(plan: Plan, lines: Iterable<JournalLine>): RunReport {
  const parts: { -readonly [Name in keyof ReportedPart]: ReportedPart[Name] }[] = [];
  const last = new Map<string, JournalLine>();
  const returned = new Set<string>();
  for (const line of lines) {
    if (line.run !== plan.run) continue;
    const { what, id, by, at, detail } = line;
    if (what === "begun") parts.push({ by, begunAt: at, endedAt: null, stopped: null, ...paceIn(detail) });
    else if (what === "ended") Object.assign(parts.at(-1) ?? {}, { endedAt: at, stopped: detail });
    else if (id === null) continue;
    else if (what === "came-back") returned.add(id);
    else if (!isDone(last.get(id))) last.set(id, line);
  }
  const messages = plan.entries.map(({ id, messageId }): ReportedMessage => {
    const { what, at = null, by = null, group = null, detail = null } = last.get(id) ?? {};
    const outcome = (what ?? null) as ReportedMessage["outcome"];
    return { id, messageId, group, outcome, at, by, detail, cameBack: returned.has(id) };
  });
  const { run, action, source, filter, plannedAt, count, rate, ramp, destinations, refused, by, edit } = plan;
  return {
    ...{ run, action, source, filter, plannedAt, plannedBy: by, count, rate, ramp, destinations, refused },
    edited: edit === null || edit === "function" ? edit : "patch",
    parts,
    outcomes: countsOf(messages),
    open: messages.filter(({ outcome }) => outcome === null).length,
    groups: groupsOf(plan, messages),
    messages,
  };
}

/** The pace of a part: a resumed one can have another than the plan. */
function paceIn(detail: string | null): Pick<Plan, "rate" | "ramp"> {
  try {
    const { rate = null, ramp = null } = JSON.parse(detail ?? "{}") as Partial<Pick<Plan, "rate" | "ramp">>;
    return { rate, ramp };
  } catch {
    return { rate: null, ramp: null };
  }
}

function isDone(line: JournalLine | undefined): boolean {
  return line?.what === "replayed" || line?.what === "edited" || line?.what === "discarded";
}

function countsOf(messages: readonly ReportedMessage[]): OutcomeCounts {
  const counts = { ...NONE };
  for (const { outcome, cameBack } of messages) {
    if (outcome !== null) counts[outcome]++;
    if (cameBack) counts["came-back"]++;
  }
  return counts;
}

function groupsOf({ groups }: Plan, messages: readonly ReportedMessage[]): readonly ReportedGroup[] {
  const byGroup = new Map<string | null, ReportedMessage[]>(groups.map(({ group }) => [group, []]));
  for (const message of messages) {
    // Without a journal line, the group of a message is unknown.
    if (message.outcome === null) continue;
    const known = byGroup.get(message.group);
    if (known === undefined) byGroup.set(message.group, [message]);
    else known.push(message);
  }
  return [...byGroup].map(([group, members]) => {
    const { errorClass = null, error = null, count = 0 } = groups.find((one) => one.group === group) ?? {};
    return { group, errorClass, error, planned: count, ...countsOf(members) };
  });
}
