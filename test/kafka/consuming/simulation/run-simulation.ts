import { type Commit, decodeProgress } from "../../../../adapters/kafka/consuming/progress.ts";
import { partitionKey } from "../../../../adapters/kafka/names.ts";
import { Prng } from "../../../simulation/prng.ts";
import { VirtualTime } from "../../../simulation/virtual-time.ts";
import { Judge } from "./judge.ts";
import { SimulatedCluster } from "./simulated-cluster.ts";
import { SimulatedGroup } from "./simulated-group.ts";
import { lifeOf, SimulatedLog } from "./simulated-log.ts";
import { type ProcessOptions, SimulatedProcess } from "./simulated-process.ts";

export interface Report {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly records: number;
  readonly kills: number;
  readonly variant: string;
}

const STORM_MS = 20_000;
/** From then on nothing goes wrong: so long everything may take to be done. */
const CALM_MS = 900_000;

/** One group of processes over some partitions: a storm of faults, then calm, in which everything must come to its end. */
export async function runSimulation(seed: number): Promise<Report> {
  const prng = new Prng(`kafka consuming ${seed}`);
  const time = new VirtualTime();
  const cluster = new SimulatedCluster(time, prng.fork("network"));
  const judge = new Judge();
  const group = new SimulatedGroup(cluster, judge);
  const partitions = prng.between(1, 4);
  for (let partition = 0; partition < partitions; partition++) {
    const log = new SimulatedLog(prng.pick(["orders", "orders.own"]), partition, prng.between(1, 2));
    cluster.logs.set(partitionKey(log), log);
  }
  const logs = [...cluster.logs.values()];
  const options: ProcessOptions = {
    prefetch: prng.pick([1, 2, 5, 50, 1_000]),
    prefetchPer: prng.chance(0.8) ? "consumer" : "partition",
  };
  const poison = prng.chance(0.5) ? 0.01 : 0;
  const deletes = prng.chance(0.2);
  const recreates = prng.chance(0.3);
  let processes: SimulatedProcess[] = [];
  let kills = 0;
  let records = 0;
  let deleted = 0;
  let recreated = 0;
  const notices: string[] = [];

  const start = (): void => {
    const process = new SimulatedProcess(`p${kills}`, group, prng.fork(`process ${time.now}`), options, (ended) => {
      kills++;
      notices.push(...ended.notices);
      processes = processes.filter((other) => other !== ended);
      time.schedule(start, prng.between(0, 1_000));
    });
    processes.push(process);
    void process.open();
  };
  const produce = (): void => {
    if (time.now > STORM_MS) return;
    const log = prng.pick(logs);
    for (let left = prng.between(1, 30); left > 0; left--) {
      const { offset } = log.append(prng);
      judge.fate(lifeOf(log, log.topicId), offset).poisonous = prng.chance(poison);
      records++;
    }
    cluster.stir();
    time.schedule(produce, prng.between(0, 400));
  };
  const remove = (): void => {
    const log = prng.pick(logs);
    const key = lifeOf(log, log.topicId);
    log.deleteBefore(log.start + prng.between(0, 30));
    for (const { offset } of log.records) {
      if (offset >= log.start) break;
      judge.fate(key, offset).deleted = true;
    }
    deleted++;
  };
  /** A topic is deleted and made again at once; the offsets of its groups go with it, sooner or later or never. */
  const recreate = (): void => {
    const { topic } = prng.pick(logs);
    for (const log of logs.filter((other) => other.topic === topic)) {
      log.recreate();
      log.leader = prng.between(1, 2);
      if (prng.chance(0.7)) time.schedule(() => forget(log), prng.between(0, 500));
    }
    recreated++;
  };
  const forget = (log: SimulatedLog): void => {
    const stored = group.stored.get(partitionKey(log));
    if (stored !== undefined && decodeProgress(stored).of?.id !== log.topicId) group.stored.delete(partitionKey(log));
  };
  const storm = (): void => {
    if (time.now > STORM_MS) {
      cluster.calm = true;
      cluster.faults = { unanswered: 0, hangs: 0, refused: 0 };
      for (const process of processes) process.setPrefetch(options.prefetch);
      return;
    }
    const process = processes.length > 0 ? prng.pick(processes) : undefined;
    const kind = prng.between(0, 10);
    if (kind <= 1) process?.kill();
    else if (kind === 2) void process?.close();
    else if (kind <= 4) void group.move();
    else if (kind === 5) group.expire();
    else if (kind === 6) prng.pick(logs).leader = prng.between(1, 2);
    else if (kind === 7 && deletes) remove();
    else if (kind === 9 && recreates) recreate();
    else if (kind === 8) process?.setPrefetch(prng.pick([0, 1, 3, options.prefetch]));
    time.schedule(storm, prng.between(50, 1_500));
  };
  if (prng.chance(0.8)) {
    cluster.faults = { unanswered: prng.pick([0, 0.02, 0.1]), hangs: prng.pick([0, 0, 0.001]), refused: 0.02 };
  }
  const { faults } = cluster;
  for (let count = prng.between(1, 3); count > 0; count--) start();
  produce();
  storm();
  // That what is committed was handled is looked at with each commit.
  const atRest = (): boolean =>
    judge.violations.length > 0 ||
    (cluster.calm && logs.every((log) => isDone(log, group.stored.get(partitionKey(log)))));
  const rested = await time.until(atRest, STORM_MS + CALM_MS);
  if (!rested) {
    const left = logs.map(
      (log) =>
        `${partitionKey(log)} ends at ${log.end}, committed ${JSON.stringify(group.stored.get(partitionKey(log)))}`,
    );
    judge.violate(`not everything was done: ${left.join("; ")}`);
  }
  for (const process of processes) notices.push(...process.notices);
  const unseen = logs.some((log) =>
    log.records.some(({ offset }) => {
      const fate = judge.fate(lifeOf(log, log.topicId), offset);
      return fate.deleted && !fate.delivered;
    }),
  );
  if (rested && unseen && !notices.some((notice) => notice.includes("begins at"))) {
    judge.violate("records were deleted before they were read, and nobody said so");
  }
  const variant = JSON.stringify({ ...options, partitions, poison, deleted, recreated, ...faults });
  return { seed, violations: judge.violations, records, kills, variant };
}

/** Whether all that is in the present topic is committed as finished. */
function isDone(log: SimulatedLog, stored: Commit | undefined): boolean {
  if (stored === undefined || log.end === 0) return log.end === 0;
  return stored.offset === log.end && decodeProgress(stored).of?.id === log.topicId;
}

export function describeReport({ seed, violations, variant }: Report): string {
  return `seed ${seed} (repeat with SIMULATION_SEED=${seed}), ${variant}:\n  ${violations.join("\n  ")}`;
}
