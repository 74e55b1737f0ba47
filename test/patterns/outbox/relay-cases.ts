import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Harness } from "../../../conformance/index.ts";
import type { OpenOutbox, OutboxPlace } from "../../../conformance/outbox/harness.ts";
import type { Adapter } from "../../../core/adapter.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { type Destination, type Queue, queue, topic } from "../../../core/destination.ts";
import { createOutbox, type Outbox } from "../../../patterns/outbox/create-outbox.ts";
import { createRelay, type Relay } from "../../../patterns/outbox/relay.ts";
import type { RunningPostgres } from "../../brokers/postgres.ts";
import { controlsOrNotRun } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import type { RelayOrder } from "./relay-process.ts";
import type { Step } from "./relay-world.ts";

const PATIENCE_MS = 240_000;
const LEASE_MS = 3_000;
const KEYS = 8;
const PROGRAM = fileURLToPath(new URL("relay-process.ts", import.meta.url));

interface Body {
  readonly n: number;
}

/** What is handled, in order. */
type Seen = { readonly id: string; readonly key: string | undefined }[];

/** Each batch takes its time, so that there is something left to send when Postgres or the broker goes. */
function slow(adapter: Adapter): Adapter {
  const send = adapter.send.bind(adapter);
  adapter.send = (...batch) => void setTimeout(() => send(...batch), 50);
  return adapter;
}

/** Where the rows come from. */
export interface RelaySource {
  /** An empty outbox of its own. */
  place(): Promise<OutboxPlace<unknown>>;
  /** Whether a transaction may commit after one that began to write later. */
  readonly lateCommits: boolean;
  /** The server, for the cases in which it goes away. */
  readonly server?: RunningPostgres;
}

/** Relays to a broker: nothing lost, nothing foreign, and the order of each key, whatever dies. */
export function relayCases(harness: Harness, source: RelaySource): void {
  let place: OutboxPlace<unknown>;
  let opened: OpenOutbox<unknown>;
  let outbox: Outbox<unknown>;
  let orders: Queue<Body>;
  let ends: (() => Promise<unknown>)[] = [];
  let cases = 0;

  beforeEach(async () => {
    place = await source.place();
    opened = await place.open({ keepSentMs: 0 });
    orders = queue<Body>(`${harness.namePrefix ?? ""}relayed-${opened.store.name}-${cases++}`, { ordered: true });
    outbox = createOutbox({ store: opened.store, broker: createBroker(harness.adapter()) });
  });

  afterEach(async () => {
    for (const end of ends.reverse()) await end();
    ends = [];
    await opened.close();
    await place.remove();
  });

  async function started(
    adapter = harness.adapter(),
    destinations: readonly Destination[] = [orders],
    consume: (broker: Broker) => void = () => {},
  ): Promise<Broker> {
    const broker = createBroker(adapter, { destinations });
    consume(broker);
    await broker.start();
    ends.push(() => broker.stop());
    return broker;
  }

  async function relay(batchSize: number, adapter?: Adapter, destinations?: readonly Destination[]): Promise<Relay> {
    const { store, close } = await place.open({ keepSentMs: 0 });
    ends.push(close);
    const broker = await started(adapter, destinations);
    const made = createRelay({ store, broker, leaseMs: LEASE_MS, pollMs: 100, batchSize });
    await made.start();
    ends.push(() => made.stop());
    return made;
  }

  type Write = (
    transaction: unknown,
    body: Body,
    options: { readonly key?: string },
  ) => Promise<{ readonly id: string }>;

  /** Rows of several keys and without one; in one transaction for each few. Returns ids by key, in order. */
  async function insert(
    count: number,
    write: Write = (transaction, body, options) => outbox.send(transaction, orders, body, options),
  ): Promise<Map<string, string[]>> {
    const written = new Map<string, string[]>();
    for (let from = 0; from < count; from += 20) {
      const { transaction, commit } = await opened.begin();
      for (let n = from; n < Math.min(from + 20, count); n++) {
        const key = n % (KEYS + 1) === KEYS ? undefined : `key${n % (KEYS + 1)}`;
        const { id } = await write(transaction, { n }, key === undefined ? {} : { key });
        written.set(key ?? "", [...(written.get(key ?? "") ?? []), id]);
      }
      await commit();
    }
    return written;
  }

  async function handled(): Promise<Seen> {
    const seen: Seen = [];
    const broker = await started();
    broker.consume(orders, (_, { id, key }) => void seen.push({ id, key }), { concurrency: KEYS });
    return seen;
  }

  /** Two relays that have sent some of many rows. */
  async function midRun(): Promise<{ readonly seen: Seen; readonly written: Map<string, string[]>[] }> {
    const seen = await handled();
    const written = [await insert(400)];
    await relay(10, slow(harness.adapter()));
    await relay(10, slow(harness.adapter()));
    await until("the first to be handled", PATIENCE_MS, () => expect(seen.length).toBeGreaterThan(20));
    return { seen, written };
  }

  /** Waits for all that was written, and judges. */
  async function judge(
    written: readonly ReadonlyMap<string, readonly string[]>[],
    seen: Readonly<Seen>,
  ): Promise<void> {
    const ofKey = (key: string): string[] => written.flatMap((some) => some.get(key) ?? []);
    const keys = [...new Set(written.flatMap((some) => [...some.keys()]))];
    const all = new Set(keys.flatMap(ofKey));
    await until("everything to be handled", PATIENCE_MS, () => {
      const there = new Set(seen.map(({ id }) => id));
      const missing = [...all].filter((id) => !there.has(id));
      if (missing.length > 0) throw new Error(`${missing.length} of ${all.size} are missing`);
    });
    expect(new Set(seen.map(({ id }) => id))).toEqual(all);
    const known = new Set<string>();
    const firsts = seen.filter(({ id }) => !known.has(id) && known.add(id));
    for (const key of keys.filter((name) => name !== "")) {
      expect(firsts.filter((one) => one.key === key).map(({ id }) => id)).toEqual(ofKey(key));
    }
    await until("an empty outbox", PATIENCE_MS, async () =>
      expect(await opened.store.health()).toMatchObject({ unsent: 0 }),
    );
  }

  test("four relays send everything, each key in order", async () => {
    const seen = await handled();
    const written = [await insert(120)];
    const relays = [];
    for (let n = 0; n < 4; n++) relays.push(await relay(30));
    written.push(await insert(80));
    await judge(written, seen);
    await Promise.all(relays.map((each) => each.drain()));
    // With nothing dying there is nothing to send twice.
    expect(seen).toHaveLength(200);
  });

  if (source.lateCommits) {
    test("a lower row that commits late is sent", async () => {
      const seen = await handled();
      const late = await opened.begin();
      const { id } = await outbox.send(late.transaction, orders, { n: -1 }, { key: "late" });
      const written = await insert(40);
      await relay(30);
      await relay(30);
      await until("all others to be handled", PATIENCE_MS, () => expect(seen).toHaveLength(40));
      await late.commit();
      await judge([written, new Map([["late", [id]]])], seen);
    });
  }

  test("relayed events reach every subscription, each key in order", async (context) => {
    if (harness.withoutTopics !== undefined) context.skip(`not applicable: topics: ${harness.withoutTopics}`);
    const placed = topic<Body>(`${orders.name}-events`, { ordered: true });
    const all = ["billing", "audit"].map((name) => ({ name, seen: [] as Seen }));
    for (const { name, seen } of all) {
      await started(undefined, [placed], (broker) => {
        broker.subscribe(placed, name, (_, { id, key }) => void seen.push({ id, key }), { concurrency: KEYS });
      });
    }
    const publish: Write = (transaction, body, options) => outbox.publish(transaction, placed, body, options);
    const written = [await insert(60, publish)];
    const relays = [await relay(15, undefined, [placed]), await relay(15, undefined, [placed])];
    written.push(await insert(40, publish));
    for (const { seen } of all) await judge(written, seen);
    await Promise.all(relays.map((each) => each.drain()));
    for (const { seen } of all) expect(seen).toHaveLength(100);
  });

  const NTH: Readonly<Record<Step, number>> = { claim: 1, claimed: 1, publish: 2, confirm: 5, mark: 2, marked: 1 };

  // A broker in process does not outlive its process. Asked for by name: its options may not stand yet.
  if ("processes" in harness) {
    test("a relay killed between every two steps loses nothing and keeps the order of each key", async () => {
      const { processes } = harness;
      const outboxProcesses = place.processes;
      if (processes === undefined || outboxProcesses === undefined) throw new Error("there are no processes after all");
      const seen = await handled();
      const written: Map<string, string[]>[] = [];
      const run = (dieAt: Step | undefined): Promise<NodeJS.Signals | undefined> => {
        const order: RelayOrder = {
          adapter: processes,
          outbox: outboxProcesses,
          queue: orders.name,
          leaseMs: LEASE_MS,
          dieAt,
          nth: dieAt === undefined ? 1 : NTH[dieAt],
        };
        return new Promise((resolve, reject) => {
          execFile(process.execPath, [PROGRAM, JSON.stringify(order)], { timeout: PATIENCE_MS }, (error, _, stderr) => {
            if (error === null) resolve(undefined);
            else if (error.signal === "SIGKILL") resolve("SIGKILL");
            else reject(new Error(`the relay failed: ${stderr}`, { cause: error }));
          });
        });
      };
      for (const step of Object.keys(NTH) as Step[]) {
        written.push(await insert(45));
        expect(await run(step), step).toBe("SIGKILL");
      }
      expect(await run(undefined)).toBeUndefined();
      await judge(written, seen);
    });

    test("the broker restarts mid-run, nothing is lost, and each key keeps its order", async (context) => {
      const { restart, losesInRestarts } = harness;
      if (losesInRestarts !== undefined) context.skip(`not applicable: ${losesInRestarts}`);
      if (restart === undefined) return context.skip("NOT RUN: the harness cannot restart the broker");
      const { seen, written } = await midRun();
      await restart();
      written.push(await insert(20));
      await judge(written, seen);
      // Nothing was given up on for an outage.
      expect(await opened.store.listQuarantined({ limit: 1 })).toEqual([]);
    });
  }

  const { server } = source;
  if (server !== undefined) {
    test.for(["restart", "kill"] as const)(
      "Postgres goes away mid-run (%s) and nothing is lost",
      async (how, context) => {
        const controls = controlsOrNotRun(server, context);
        const { seen, written } = await midRun();
        if (how === "restart") {
          await controls.restart();
        } else {
          await controls.kill();
          await controls.start();
        }
        await until("Postgres to be back", PATIENCE_MS, () => opened.store.health());
        written.push(await insert(20));
        await judge(written, seen);
      },
    );
  }
}
