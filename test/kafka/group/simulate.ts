import { cut, deaden, restore } from "./fake-cluster.ts";
import type { FakeConsumer } from "./fake-consumer.ts";
import { World } from "./world.ts";

/** How a simulated group ended. */
export interface Report {
  readonly seed: number;
  readonly violations: readonly string[];
  readonly log: readonly string[];
}

/** Longer than anything that may yet follow from what was before: a session of the dead, and a join after it. */
const QUIET_MS = 45_000;
const LONGEST_MS = 240_000;

/**
 * Members come, leave, die, stand still and lose their connections, and the coordinator moves; then all is well again.
 * The same seed gives the same log.
 */
export async function simulate(seed: number): Promise<Report> {
  const world = new World(seed, { orders: 1 + (seed % 7), "orders.other": 1 + (seed % 4) }, (seed % 3) * 1_000);
  const { random, violations } = world;
  const drains = [0, 500, 3_000, 20_000, "never"] as const;
  const sessionTimeoutMs = random.pick([6_000, 10_000, 30_000]);
  const join = (): void => void world.join({ sessionTimeoutMs, drainMs: random.pick(drains) });
  for (let count = random.between(1, 4); count > 0; count--) join();

  for (let happenings = random.between(5, 25); happenings > 0; happenings--) {
    await world.pass(random.pick([10, 300, 2_000, 12_000]) * random.fraction());
    const { running } = world;
    if (running.length < 2) join();
    else happen(world, random.pick(running), join);
  }

  for (const consumer of world.consumers) heal(consumer);
  if (world.running.length === 0) join();
  // Once everybody has what is theirs, nothing moves any more, and everybody goes forward.
  const { coordinator, time } = world;
  const isAtRest = (): boolean => world.isCalm() && time.now - coordinator.begun > QUIET_MS;
  if (!(await world.until(isAtRest, LONGEST_MS))) violations.push("the group did not come to rest in calm");
  const before = new Map(world.coordinator.offsets);
  await world.pass(10_000);
  for (const key of world.running.flatMap(({ works }) => [...works.keys()])) {
    const offset = world.coordinator.offsets.get(key)?.offset ?? -1;
    if (offset <= (before.get(key)?.offset ?? -1)) violations.push(`nothing of ${key} is committed in calm`);
  }

  // Whoever leaves is not waited for, and leaves nothing behind.
  for (const consumer of world.running) void consumer.close();
  await world.pass(4_000);
  for (const { name, callsAfterClose, clock, isDead, isClosed } of world.consumers) {
    if (callsAfterClose > 0) violations.push(`${name} was called after it was closed`);
    if (isClosed && (!isDead || clock.pending > 0)) violations.push(`${name} did not come to an end`);
  }
  if (world.coordinator.memberIds.length > 0) violations.push("members are left in the group");
  return { seed, violations, log: world.log };
}

function happen(world: World, consumer: FakeConsumer, join: () => void): void {
  const { random, cluster, time } = world;
  const { name, line, clock } = consumer;
  const ms = random.pick([100, 3_000, 9_000, 25_000]) * random.fraction();
  const healLater = (): void => void time.schedule(() => heal(consumer), ms);
  const happenings: readonly (() => void)[] = [
    join,
    join,
    () => {
      world.say(`${name} leaves`);
      void consumer.close();
    },
    () => {
      world.say(`${name} dies`);
      consumer.kill();
    },
    () => {
      world.say(`${name} stands still for ${ms.toFixed(0)} ms`);
      clock.pause();
      healLater();
    },
    () => {
      world.say(`${name} loses its connections`);
      cut(line);
    },
    () => {
      world.say(`${name} cannot connect for ${ms.toFixed(0)} ms`);
      line.weather = "refused";
      cut(line);
      healLater();
    },
    () => {
      world.say(`${name} hears nothing for ${ms.toFixed(0)} ms`);
      line.weather = "silent";
      healLater();
    },
    () => {
      world.say(`${name} has half-open connections`);
      deaden(line);
    },
    () => {
      const topic = random.pick([...cluster.topics.keys()]);
      cluster.topics.set(topic, (cluster.topics.get(topic) ?? 0) + random.between(1, 2));
      world.say(`${topic} has ${cluster.topics.get(topic)} partitions`);
      random.pick(world.running).member.refresh();
    },
    () => {
      world.say(`the topics are not known for ${ms.toFixed(0)} ms`);
      cluster.isForgetful = true;
      time.schedule(() => {
        cluster.isForgetful = false;
      }, ms);
      random.pick(world.running).member.refresh();
    },
    () => {
      world.say(`the coordinator stands still for ${ms.toFixed(0)} ms`);
      cluster.freeze(ms);
    },
    () => {
      if (!cluster.isUp || world.coordinator.isLoading) return;
      world.say(`the coordinator moves within ${ms.toFixed(0)} ms`);
      cluster.isOtherUp = random.chance(0.5);
      cluster.failOver(ms / 2, ms / 2);
    },
  ];
  random.pick(happenings)();
}

function heal({ line, clock, isDead }: FakeConsumer): void {
  if (isDead) return;
  clock.resume();
  restore(line);
}
