import { type Adapter, queue } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import {
  type MigrationControl,
  type MigrationProgress,
  type MigrationStore,
  memoryMigrationStore,
  migrationControl,
} from "anybroker/migration";
import { expect, onTestFinished, test } from "vitest";
import { addressName } from "../../../core/address.ts";
import { eventually } from "../../eventually.ts";

const SOURCES = Array.from({ length: 11 }, (_, n) =>
  queue<string>(`source-${n}`, n % 2 === 0 ? { ordered: true } : {}),
);
const PLACES = SOURCES.flatMap(({ name, options }) =>
  options.ordered === true ? [`${name}.dlq`] : [name, `${name}.dlq`],
);

/** Eleven empty sources on a broker that estimates what stands there, as SQS does. */
class Estimating {
  readonly state: MigrationStore = memoryMigrationStore();
  readonly #from = memorySpace();
  readonly #to = memorySpace();
  /** What is asked how much stands there, in order. */
  readonly asked: string[] = [];
  /** How much is said to stand there. */
  ready: (place: string) => number = () => 0;

  control(): MigrationControl {
    const { state } = this;
    const to = memory({ space: this.#to });
    const made = migrationControl({ from: this.#estimating(), to, destinations: SOURCES, state });
    onTestFinished(() => made.close());
    return made;
  }

  #estimating(): Adapter {
    const adapter = memory({ space: this.#from, leaseMs: 60_000 });
    adapter.depth = async (of) => {
      const place = addressName(of);
      this.asked.push(place);
      return { ready: this.ready(place), unsettled: 0, exact: false };
    };
    return adapter;
  }

  async moved(): Promise<readonly string[]> {
    const { document = "{}" } = await this.state.read("migration");
    const { moved } = JSON.parse(document) as { readonly moved?: { readonly sources: readonly string[] } | null };
    return moved?.sources ?? [];
  }
}

async function published(world: Estimating): Promise<MigrationControl> {
  const control = world.control();
  for (const options of [{}, {}, { share: 100 }]) await control.advance(options);
  world.asked.length = 0;
  return control;
}

test("what is left is looked for in all sources side by side", async () => {
  const world = new Estimating();
  const control = await published(world);
  const firsts = SOURCES.map(({ name, options }) => (options.ordered === true ? `${name}.dlq` : name));
  // No source is empty before all of them were looked at.
  world.ready = () => (firsts.every((place) => world.asked.includes(place)) ? 0 : 1);
  expect(await control.advance({ emptyForMs: 40, patienceMs: 60_000 })).toMatchObject({ step: "bridged" });
});

test("what was moved is remembered where patience ends, by another operator too, until the step is done", async () => {
  const world = new Estimating();
  const control = await published(world);
  const full = "source-3";
  world.ready = (place) => (place === full ? 1 : 0);
  const stopped = new AbortController();
  const advancing = control.advance({ emptyForMs: 40, signal: stopped.signal });
  const others = PLACES.filter((place) => !place.startsWith(full));
  await eventually(async () => expect([...(await world.moved())].sort()).toEqual([...others].sort()));
  stopped.abort(new Error("that was long"));
  await expect(advancing).rejects.toThrow("that was long");
  world.asked.length = 0;
  const told: MigrationProgress[] = [];
  world.ready = () => 0;
  const again = world.control();
  const status = await again.advance({
    emptyForMs: 40,
    patienceMs: 60_000,
    onProgress: (progress) => void told.push(progress),
  });
  expect(status).toMatchObject({ step: "bridged" });
  const bridged = told.flatMap((one) => (one.waitingFor === "bridge" ? [one.bridge.source] : []));
  expect([...new Set(bridged)].sort()).toEqual([full, `${full}.dlq`]);
  expect(await world.moved()).toEqual([]);
});

test("where patience ends, the message names the options", async () => {
  const world = new Estimating();
  const control = await published(world);
  world.ready = () => 1;
  const refused = control.advance({ emptyForMs: 50, patienceMs: 100 });
  await expect(refused).rejects.toMatchObject({
    code: "timeout",
    message: expect.stringMatching(/patienceMs, --patience.*source-\d.*emptyForMs \(50 ms\).*advance/),
  });
});

test("a patience in which no source can be seen empty is refused at once", async () => {
  const world = new Estimating();
  const control = await published(world);
  const refusal = {
    code: "invalid",
    message: expect.stringMatching(/--patience\) is 4000 ms, and must be at least 15000 ms.*emptyForMs \(10000 ms\)/),
  };
  await expect(control.advance({ patienceMs: 4_000 })).rejects.toMatchObject(refusal);
  expect(await world.moved()).toEqual([]);
  expect(await control.advance({ emptyForMs: 40, patienceMs: 60_000 })).toMatchObject({ step: "bridged" });
  await expect(control.advance({ patienceMs: 4_000 })).rejects.toMatchObject(refusal);
});
