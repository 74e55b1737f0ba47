import type { Depth } from "../../core/adapter.ts";
import { addressName, type WorkAddress } from "../../core/address.ts";
import type { Broker } from "../../core/broker.ts";
import { internalsOf } from "../../core/broker-internals.ts";
import { checkInteger, checkOptions } from "../../core/checks.ts";
import { storableText } from "../../core/stores.ts";
import type { ParityReport, ReportOptions, SourceParity } from "./contract.ts";
import { deadLetterIds, reportOf } from "./drain.ts";
import type { Plan } from "./plan.ts";
import type { Side } from "./state.ts";
import type { JournalClass, JournalCounts } from "./store.ts";

const DEFAULT_LIMIT = 100;
const MARKED_AT_ONCE = 1_000;
/** Handled ids are kept this long, since duplicates may arrive. Then only their number is kept. */
const FOLD_AFTER_MS = 60 * 60 * 1_000;
const FOLDED_AT_ONCE = 10_000;

/** Makes the parity report. `brokers` are the ones that can be asked. */
export async function parityReport(
  plan: Plan,
  brokers: Partial<Readonly<Record<Side, Broker>>>,
  options: ReportOptions,
): Promise<ParityReport> {
  checkOptions("report", options, ["limit", "deadLetters"]);
  const { limit = DEFAULT_LIMIT, deadLetters = true } = options;
  checkInteger("report { limit }", limit, 0, 10_000);
  const { state: store, name } = plan;
  if (deadLetters) {
    for (const { address } of plan.works()) {
      for (const broker of [brokers.from, brokers.to]) if (broker !== undefined) await markDead(plan, broker, address);
    }
  }
  await store.fold(name, FOLD_AFTER_MS, FOLDED_AT_ONCE);
  const counts = await store.counts(name);
  const { now, instances } = await store.read(name);
  const waived = instances.some(({ report }) => reportOf(report).journaled === false);
  const sources: SourceParity[] = [];
  for (const { address } of plan.works()) {
    const source = addressName(address);
    const counted = counts.find((each) => each.source === source) ?? nothing(source);
    const of = async (which: JournalClass): Promise<SourceParity["missing"]> => ({
      count: counted[which],
      ids: counted[which] === 0 || limit === 0 ? [] : await store.list(name, source, which, undefined, limit),
    });
    sources.push({
      source,
      published: counted.published,
      handled: counted.handled,
      missing: await of("missing"),
      dead: await of("dead"),
      unexpected: await of("unexpected"),
      remaining: { from: await remaining(brokers.from, address), to: await remaining(brokers.to, address) },
    });
  }
  const equal = sources.every(({ missing }) => missing.count === 0);
  const verdict = waived ? "waived" : equal ? "equal" : "different";
  return { name, at: new Date(now).toISOString(), verdict, sources };
}

function nothing(source: string): JournalCounts {
  return { source, published: 0, handled: 0, missing: 0, dead: 0, unexpected: 0 };
}

async function markDead({ state, name }: Plan, broker: Broker, address: WorkAddress): Promise<void> {
  const source = addressName(address);
  for await (const ids of deadLetterIds(broker, address)) {
    for (let at = 0; at < ids.length; at += MARKED_AT_ONCE) {
      const some = ids.slice(at, at + MARKED_AT_ONCE);
      await state.mark(
        name,
        some.map((id) => ({ source, id: storableText(id), mark: "dead" })),
      );
    }
  }
}

async function remaining(broker: Broker | undefined, address: WorkAddress): Promise<number | undefined> {
  if (broker === undefined) return undefined;
  const depth: Depth | undefined = await internalsOf(broker, "migration")
    .adapter.depth(address)
    .catch(() => undefined);
  return depth === undefined ? undefined : depth.ready + (depth.unsettled ?? 0);
}
