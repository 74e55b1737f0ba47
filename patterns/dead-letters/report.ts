import type { JournaledOutcome, JournalLine } from "./journal.ts";
import type { Plan } from "./plan.ts";

/** What somebody did of a run, from its beginning to its end. */
export interface ReportedPart {
  readonly by: string | null;
  readonly begunAt: string;
  /** Null for one that is under way, or died. */
  readonly endedAt: string | null;
  /** Why it ended before the plan was done; null if it went through, or did not end. */
  readonly stopped: string | null;
}

/** How often each outcome is the last one of a message; `came-back` counts besides. */
type OutcomeCounts = Readonly<Record<JournaledOutcome, number>>;

/** What became of the dead letters that failed in one way. */
export interface ReportedGroup extends OutcomeCounts {
  /** The fingerprint; null for what was not there any more. */
  readonly group: string | null;
  readonly errorClass: string | null;
  readonly error: string | null;
  readonly planned: number;
}

/** What became of one message. */
export interface ReportedMessage {
  readonly id: string;
  readonly messageId: string;
  readonly group: string | null;
  /** Null for one that nothing was done about yet. */
  readonly outcome: Exclude<JournaledOutcome, "came-back"> | null;
  /** ISO time. */
  readonly at: string | null;
  readonly by: string | null;
  readonly detail: string | null;
  /** Whether it was seen dead again afterwards. */
  readonly cameBack: boolean;
}

/** What a run did, by its plan and its journal: plain JSON. */
export interface RunReport
  extends Pick<Plan, "run" | "action" | "source" | "filter" | "plannedAt" | "count" | "rate" | "ramp"> {
  readonly plannedBy: string | null;
  readonly edited: "patch" | "function" | null;
  /** Where to, or for a discard where from. */
  readonly destinations: Plan["destinations"];
  readonly refused: Plan["refused"];
  readonly parts: readonly ReportedPart[];
  readonly outcomes: OutcomeCounts;
  /** How many of the plan nothing was done about yet. */
  readonly open: number;
  readonly groups: readonly ReportedGroup[];
  /** In the order of the plan. */
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
 * Puts together what a run did, from its plan and the lines of its journal. Of several lines about one message the last one
 * counts, but for one that was done: what is done is not undone. Lines of other runs are passed over.
 */
export function runReport(plan: Plan, lines: Iterable<JournalLine>): RunReport {
  const parts: { by: string | null; begunAt: string; endedAt: string | null; stopped: string | null }[] = [];
  const last = new Map<string, JournalLine>();
  const returned = new Set<string>();
  for (const line of lines) {
    if (line.run !== plan.run) continue;
    const { what, id, by, at, detail } = line;
    if (what === "begun") parts.push({ by, begunAt: at, endedAt: null, stopped: null });
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
    // Of what nothing was written the group is not known by message.
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
